// Backend on an NVIDIA GPU. A lane is a stream with its own scratch, staging and workspace, so that lanes share nothing that
// is written, and threads may work in different ones at the same time; nothing waits for the device but download*(), synchronize(), wait() and allocate().
// Activations are BF16 (F32 for Precision::FP32, the oracle mode: no TF32 anywhere).
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "attention_plan.h"
#include "cublaslt.h"
#include "features.h"
#include "gemm.h"
#include "kernels.h"
#include "staging.h"

namespace longlive::cuda {

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const BackendOptions& options);
  ~CudaBackend() override;

  DeviceInfo info() const override;
  DType linearType(int64_t width) const override { return cuda::linearType(precision(), width); }

  std::unique_ptr<Storage> allocate(size_t bytes) override;
  void upload(const Tensor& out, const float* host) override { staging().upload(stream(), out, host); }
  void download(float* host, const Tensor& in) override { staging().download(stream(), host, in); }
  void fill(const Tensor& out, uint8_t byte) override;
  void copy(const Tensor& out, const Tensor& in) override { convert(stream(), out, in); }
  void synchronize() override;
  std::unique_ptr<Storage> allocateHost(size_t bytes) override;
  void copyOut(void* host, const Tensor& in) override;

  Lane use(Lane lane) override;
  std::unique_ptr<Mark> makeMark() override;
  void mark(Mark& m) override;
  void follow(const Mark& m) override;
  void wait(const Mark& m) override;
  void replay(std::unique_ptr<Recording>& recording, uint64_t version, const std::function<void()>& work) override;

  std::unique_ptr<LinearWeights> loadLinear(const StoredMatrix& weight, const float* bias, EightBit eightBit) override;
  std::unique_ptr<ConvWeights> prepareConv(const float* weight, const float* bias, int64_t out, int64_t in, int kt, int kh, int kw,
                                           bool sensitive, bool upsample2x, Bounds bounds) override;

  void linear(const LinearRows& out, const LinearRows& in, const LinearWeights& w, const Epilogue& e) override;
  void layerNorm(const LinearRows& out, const Tensor& in, NormScale kind, const Tensor& scale, const Tensor& shift, float eps) override {
    (kind == NormScale::Affine ? cuda::layerNormAffine : cuda::layerNormModulate)(stream(), out, in, scale, shift, eps);
  }
  void rmsNorm(const Tensor& out, const Tensor& in, const Tensor& weight, float eps) override {
    cuda::rmsNorm(stream(), out, in, weight, eps);
  }
  void rmsNormRope(const Tensor& out, const Tensor& in, const Tensor& weight, float eps, int64_t heads, const RotationAt& at) override {
    cuda::rmsNormRope(stream(), out, in, weight, eps, heads, *at.tables, at.temporal);
  }
  void rope(const Tensor& out, const Tensor& in, int64_t heads, const RotationAt& at) override {
    cuda::rope(stream(), out, in, heads, *at.tables, at.temporal);
  }
  void attention(const AttentionArgs& a) override { attend(SelfAttention(a)); }
  std::unique_ptr<KeyValues> makeKeyValues(const KeyValueLayout& layout) override;

  void add(const Tensor& out, const Tensor& a, const Tensor& b) override { cuda::add(stream(), out, a, b); }
  void activate(const Tensor& out, const Tensor& in, Activation a) override {
    if (a == Activation::TanhClamp) cuda::tanhClamp(stream(), out, in);
    else cuda::activate(stream(), out, in, a);
  }
  void embed(const Tensor& out, const Tensor& table, std::span<const int32_t> ids) override { cuda::embed(stream(), out, table, ids); }

  void patchify(const Tensor& tokens, const Tensor& latents) override { cuda::patchify(stream(), tokens, latents); }
  void flowToX0(const Tensor& x0, const Tensor& xt, const Tensor& flow, float sigma) override {
    cuda::flowToX0(stream(), x0, xt, flow, sigma);
  }
  void mix(const Tensor& out, const Tensor& a, const Tensor& b, float s) override { cuda::mix(stream(), out, a, b, s); }
  void gaussian(const Tensor& out, uint64_t seed, uint32_t block, uint32_t step) override {
    cuda::gaussian(stream(), out, seed, block, step);
  }

  void conv(const ConvArgs& a) override;
  void channelNorm(const Tensor& out, const Tensor& in, const Tensor& gamma, Activation a, ByteCode) override {
    cuda::channelNorm(stream(), out, in, gamma, a);
  }
  void splitTime(const Tensor& out, const Tensor& in, int factor) override { cuda::splitTime(stream(), out, in, factor); }
  void permute(ChannelOrder order, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add) override {
    cuda::permute(stream(), order, out, in, mul, add);
  }
  void toRgb8(const Tensor& out, const Tensor& in, bool unit) override { cuda::toRgb8(stream(), out, in, unit); }
  void toI420(const Tensor& out, const Tensor& rgb) override { cuda::toI420(stream(), out, rgb); }

  // What its store of keys and values is made of (cuda_key_values.h).
  bool takesEightBitAttention() const { return attention_ == AttentionArithmetic::Int8 && attentionKernel_ != AttentionKernel::Plain; }
  EightBitFormat eightBitFormat(int64_t headDim) const;
  // Makes what 8-bit attention takes of pages that are new, by bits, as far as attention will see their rows: the first `rows`. `anew`: of all of these
  // pages, so that the ranges of numbers may be new, too.
  void keep(const KeptKeys& out, const Tensor& k, const Tensor& v, int64_t heads, uint32_t pages, int64_t rows, bool anew);
  void attend(const SelfAttention& a);

  // The stream of the current lane; makes the device the calling thread's current one.
  cudaStream_t stream() const;

 private:
  struct LaneState {
    LaneState() = default;
    ~LaneState();  // when its stream has done what it was given

    cudaStream_t stream = nullptr;
    std::unique_ptr<Staging> staging;
    std::unique_ptr<Storage> workspace;  // of cuBLASLt, and of attention
    std::vector<std::unique_ptr<Storage>> scratch, wide;  // wide: a matrix of bytes as bf16, for the product at hand
  };

  LaneState& lane() { return lanes_[static_cast<size_t>(features_.lanes ? lane_ : Lane::Main)]; }
  const LaneState& lane() const { return lanes_[static_cast<size_t>(features_.lanes ? lane_ : Lane::Main)]; }
  Staging& staging() { return *lane().staging; }
  void openLanes();
  // Throws Error{InvalidArgument} for arithmetic that the chip does not have.
  void requireArithmetic(const BackendOptions& options, const cudaDeviceProp& p) const;
  // Uploads once, at load.
  std::unique_ptr<Storage> uploaded(const void* host, size_t bytes);
  // Scratch for the call at hand. It grows while the largest calls are first met and then stays; what it outgrows is kept,
  // because kernels and graphs under way may refer to it.
  void* scratch(size_t bytes) { return grown(lane().scratch, bytes); }
  void* grown(std::vector<std::unique_ptr<Storage>>& memory, size_t bytes);
  // The matrix that products take: as it is kept, or made wide for this call.
  PackedMatrix matrixFor(const struct CudaLinear& w);
  // A layer's input as its matrix takes it, made in scratch if it is not yet that; behind it `spare` bytes.
  struct Operands { LinearRows in; void* spare = nullptr; };
  Operands operandsFor(const LinearRows& in, Operand operand, size_t spare);
  bool linearByLibrary(const Tensor& out, const Operands& operands, const struct CudaLinear& w, const PackedMatrix& matrix, const Epilogue& e);

  AttentionArithmetic attention_;
  Features features_;
  int device_ = 0, computeMajor_ = 0;
  bool fp8_ = false;        // there is code for it
  bool nativeFp8_ = false;  // and mma.sync is not made of conversions and f16 products, as it is for sm_90 and sm_100
  AttentionKernel attentionKernel_ = AttentionKernel::Best;
  DeviceInfo info_;
  static thread_local Lane lane_;
  std::unique_ptr<CublasLt> lt_;
  std::array<LaneState, static_cast<size_t>(Lane::Count)> lanes_;  // last: their work ends before anything that it uses
};

}  // namespace longlive::cuda

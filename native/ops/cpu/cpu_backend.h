// Backend on the host's processors: checks shapes, and hands every operation to the kernel functions (kernels.h, conv.h,
// volume.h, sampling.h). Texts are encoded by threads of their own, which share the processors with those of a block by the
// operating system's rules: taking turns, loop by loop, would cost both far more than that.
#pragma once

#include <utility>

#include "conv.h"
#include "kernels.h"
#include "sampling.h"
#include "volume.h"

namespace longlive::cpu {

BackendTraits traitsOf(const BackendOptions& options);
// How loadLinear keeps a matrix. Bytes of the package stay bytes where they may; as the oracle, FP32 calculates with what they stand for.
bool isWidened(EightBit eightBit, DType stored, Precision precision);
Precision formatOf(EightBit eightBit, bool widened, Precision precision);

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options);

  DeviceInfo info() const override;

  std::unique_ptr<Storage> allocate(size_t bytes) override;
  void upload(const Tensor& out, const float* host) override;
  void download(float* host, const Tensor& in) override;
  void copyOut(void* host, const Tensor& in) override;
  void fill(const Tensor& out, uint8_t byte) override;
  void copy(const Tensor& out, const Tensor& in) override { cpu::copy(context(), out, in); }
  void synchronize() override {}
  Lane use(Lane lane) override { return std::exchange(lane_, lane); }

  std::unique_ptr<LinearWeights> loadLinear(const StoredMatrix& weight, const float* bias, EightBit eightBit) override;
  std::unique_ptr<ConvWeights> prepareConv(const float* weight, const float* bias, int64_t out, int64_t in, int kt, int kh, int kw,
                                           bool sensitive, bool upsample2x, Bounds bounds) override;

  void linear(const LinearRows& out, const LinearRows& in, const LinearWeights& w, const Epilogue& e) override;
  void layerNorm(const LinearRows& out, const Tensor& in, NormScale kind, const Tensor& scale, const Tensor& shift, float eps) override;
  void rmsNorm(const Tensor& out, const Tensor& in, const Tensor& weight, float eps) override;
  void rmsNormRope(const Tensor& out, const Tensor& in, const Tensor& weight, float eps, int64_t heads, const RotationAt& at) override;
  void rope(const Tensor& out, const Tensor& in, int64_t heads, const RotationAt& at) override;
  void attention(const AttentionArgs& a) override;
  std::unique_ptr<KeyValues> makeKeyValues(const KeyValueLayout& layout) override;

  void add(const Tensor& out, const Tensor& a, const Tensor& b) override;
  void activate(const Tensor& out, const Tensor& in, Activation a) override;
  void embed(const Tensor& out, const Tensor& table, std::span<const int32_t> ids) override {
    cpu::embed(context(), out, table, ids);
  }

  void patchify(const Tensor& tokens, const Tensor& latents) override { cpu::patchify(tokens, latents); }
  void flowToX0(const Tensor& x0, const Tensor& xt, const Tensor& flow, float sigma) override {
    cpu::flowToX0(context(), x0, xt, flow, sigma);
  }
  void mix(const Tensor& out, const Tensor& a, const Tensor& b, float s) override { cpu::mix(out, a, b, s); }
  void gaussian(const Tensor& out, uint64_t seed, uint32_t block, uint32_t step) override {
    cpu::gaussian(context(), out.as<float>(), out.elements(), seed, block, step);
  }

  void conv(const ConvArgs& a) override { cpu::conv(context(), a); }
  void channelNorm(const Tensor& out, const Tensor& in, const Tensor& gamma, Activation a, ByteCode code) override {
    cpu::channelNorm(context(), out, in, gamma, a, code);
  }
  void splitTime(const Tensor& out, const Tensor& in, int factor) override { cpu::splitTime(context(), out, in, factor); }
  void permute(ChannelOrder order, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add) override {
    cpu::permute(context(), order, out, in, mul, add);
  }
  void toRgb8(const Tensor& out, const Tensor& in, bool unit) override { cpu::toRgb8(context(), out, in, unit); }
  void toI420(const Tensor& out, const Tensor& rgb) override { cpu::toI420(context(), out, rgb); }

  // What its store of keys and values is made of, too (cpu_key_values.h).
  // I8 rows with scales [n, groups] F32, each for width / groups neighbouring channels: value = scale * byte.
  void toBytes(const Tensor& bytes, const Tensor& scales, const Tensor& in);
  void fromBytes(const Tensor& out, const Tensor& bytes, const Tensor& scales);
  // Such rows become (1 - s) of themselves and s of others.
  void mixBytes(const Tensor& bytes, const Tensor& scales, const Tensor& otherBytes, const Tensor& otherScales, float s);

 private:
  Context& context() { return lane_ == Lane::Text ? textContext_ : context_; }

  static thread_local Lane lane_;
  ThreadPool pool_, textPool_;
  Context context_, textContext_;
};

}  // namespace longlive::cpu

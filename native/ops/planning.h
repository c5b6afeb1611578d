// A backend that calculates nothing and counts bytes: the model's own code, run on it, says how much memory it will take of a
// device that need not be there. Tensors point nowhere.
#pragma once

#include <array>
#include <utility>

#include "longlive/engine.h"
#include "ops.h"

namespace longlive {

class PlanningBackend final : public Backend {
 public:
  PlanningBackend(DeviceKind kind, Precision precision, AttentionArithmetic attention)
      : cuda_(kind == DeviceKind::Cuda), precision_(precision), attention_(attention) {}

  size_t highest() const { return highest_; }  // most bytes that were held at once
  size_t working() const;                      // what the backend takes for itself: staging, workspaces, scratch

  DeviceInfo info() const override { return {cuda_ ? "cuda" : "cpu", "plan", "", 0, 1}; }
  Precision precision() const override { return precision_; }
  DType activationType() const override { return cuda_ && precision_ != Precision::FP32 ? DType::BF16 : DType::F32; }
  DType kvType() const override { return precision_ == Precision::FP32 ? DType::F32 : DType::BF16; }
  // On the CPU this depends on its instructions; F32 is the most it can be.
  DType convType() const override { return activationType(); }
  DType linearType(int64_t width) const override;

  bool concurrent() const override { return cuda_; }
  Lane use(Lane lane) override { return std::exchange(lane_, lane); }
  std::unique_ptr<Storage> allocate(size_t bytes) override;
  void upload(const Tensor&, const float*) override {}
  void uploadRows(const Tensor&, const StoredMatrix&) override {}
  void download(float* host, const Tensor& in) override { std::fill_n(host, in.elements(), 0.0f); }
  void downloadBytes(void* host, const Tensor& in) override { std::fill_n(static_cast<char*>(host), in.bytes(), 0); }
  void zero(const Tensor&) override {}
  void copy(const Tensor&, const Tensor&) override {}
  void synchronize() override {}
  void copyOut(void*, const Tensor&) override {}

  std::unique_ptr<LinearWeights> loadLinear(const StoredMatrix& weight, const float* bias, EightBit eightBit) override;
  std::unique_ptr<LinearWeights> prepareLinear(const float*, const float* bias, int64_t out, int64_t in, bool sensitive) override;
  std::unique_ptr<ConvWeights> prepareConv(const float*, const float* bias, int64_t out, int64_t in, int kt, int kh, int kw, bool,
                                           bool upsample2x) override;

  void linear(const LinearRows& out, const LinearRows& in, const LinearWeights& w, const Epilogue& e) override;
  void layerNormModulate(const LinearRows&, const Tensor&, const Tensor&, const Tensor&, float) override {}
  void layerNormAffine(const LinearRows&, const Tensor&, const Tensor&, const Tensor&, float) override {}
  void rmsNorm(const Tensor&, const Tensor&, const Tensor&, float) override {}
  void rmsNormRope(const Tensor&, const Tensor&, const Tensor&, float, int64_t, const RopeTables&, std::span<const int32_t>) override {}
  void rope(const Tensor&, const Tensor&, int64_t, const RopeTables&, std::span<const int32_t>) override {}
  void attention(const AttentionArgs& a) override;
  bool quantisesQueries(int64_t width, int64_t heads) const override;
  void quantisedQueries(const Tensor&, const Tensor&, const Tensor&, const Tensor&, float, int64_t, const RopeTables&, std::span<const int32_t>) override {}
  int64_t keptBytes(int64_t rows, int64_t page, int64_t width, int64_t heads) const override;
  void keep(const KeptKeys& out, const Tensor& k, const Tensor& v, int64_t heads, std::span<const KeyRange> pages, bool anew) override;
  void add(const Tensor&, const Tensor&, const Tensor&) override {}
  void activate(const Tensor&, const Tensor&, Activation) override {}
  void embed(const Tensor&, const Tensor&, std::span<const int32_t>) override {}
  void patchify(const Tensor&, const Tensor&) override {}
  void flowToX0(const Tensor&, const Tensor&, const Tensor&, float) override {}
  void addNoise(const Tensor&, const Tensor&, const Tensor&, float) override {}
  void gaussian(const Tensor&, uint64_t, uint32_t, uint32_t) override {}
  void conv(const ConvArgs&) override {}
  void channelNorm(const Tensor&, const Tensor&, const Tensor&, Activation) override {}
  void splitTime(const Tensor&, const Tensor&, int) override {}
  void toChannelsLast(const Tensor&, const Tensor&, const Tensor&, const Tensor&) override {}
  void toChannelsFirst(const Tensor&, const Tensor&, const Tensor&, const Tensor&) override {}
  void tanhClamp(const Tensor&, const Tensor&, float) override {}
  void toRgb8(const Tensor&, const Tensor&, bool) override {}
  void toI420(const Tensor&, const Tensor&) override {}

 private:
  std::unique_ptr<LinearWeights> matrix(int64_t out, int64_t in, bool bias, bool eightBit, bool weightsOnly);

  // Scratch that grows when a larger call is met, and keeps what it has outgrown, as cuda_backend.h's does; of one lane.
  struct Scratch {
    void need(size_t bytes) {
      if (bytes > largest) largest = bytes, held += bytes;
    }
    size_t largest = 0, held = 0;
  };
  struct LaneScratch {
    Scratch rows, wide;  // wide: a matrix that is made wide for one product
  };
  LaneScratch& scratch() { return scratch_[static_cast<size_t>(lane_)]; }

  bool cuda_;
  Precision precision_;
  AttentionArithmetic attention_;
  size_t held_ = 0, highest_ = 0;
  Lane lane_ = Lane::Main;
  std::array<LaneScratch, static_cast<size_t>(Lane::Count)> scratch_;
};

}  // namespace longlive

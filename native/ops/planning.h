// A backend that calculates nothing and counts bytes: the model's own code, run on it, says how much memory it will take of a
// device that need not be there. Tensors point nowhere.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "backend_memory.h"

namespace longlive {

class PlanningBackend final : public Backend {
 public:
  explicit PlanningBackend(std::unique_ptr<BackendMemory> memory) : Backend(memory->traits()), memory_(std::move(memory)) {}

  size_t highest() const { return highest_; }  // most bytes that were held at once
  size_t working() const;                      // what the backend takes for itself: staging, workspaces, scratch

  DeviceInfo info() const override { return {"plan", "", 0, 0, working(), 1}; }
  DType linearType(int64_t width) const override { return memory_->linearType(width); }

  Lane use(Lane lane) override { return std::exchange(lane_, lane); }
  std::unique_ptr<Storage> allocate(size_t bytes) override;
  void upload(const Tensor&, const float*) override {}
  void uploadRows(const Tensor&, const StoredMatrix&) override {}
  void download(float* host, const Tensor& in) override { std::fill_n(host, in.elements(), 0.0f); }
  void copyOut(void*, const Tensor&) override {}
  void fill(const Tensor&, uint8_t) override {}
  void copy(const Tensor&, const Tensor&) override {}
  void synchronize() override {}

  std::unique_ptr<LinearWeights> loadLinear(const StoredMatrix& weight, const float* bias, EightBit eightBit) override;
  std::unique_ptr<ConvWeights> prepareConv(const float*, const float* bias, int64_t out, int64_t in, int kt, int kh, int kw, bool sensitive,
                                           bool upsample2x, Bounds bounds) override;

  void linear(const LinearRows& out, const LinearRows& in, const LinearWeights& w, const Epilogue& e) override;
  void layerNorm(const LinearRows&, const Tensor&, NormScale, const Tensor&, const Tensor&, float) override {}
  void rmsNorm(const Tensor& out, const Tensor&, const Tensor&, float) override { need(memory_->normScratch(out, 0)); }
  void rmsNormRope(const Tensor& out, const Tensor&, const Tensor&, float, int64_t heads, const RotationAt&) override {
    need(memory_->normScratch(out, out.shape[-1] / heads));
  }
  void rope(const Tensor& out, const Tensor&, int64_t heads, const RotationAt&) override { need(memory_->normScratch(out, out.shape[-1] / heads)); }
  void attention(const AttentionArgs& a) override { need(memory_->attentionScratch(a)); }
  std::unique_ptr<KeyValues> makeKeyValues(const KeyValueLayout& layout) override;
  void add(const Tensor&, const Tensor&, const Tensor&) override {}
  void activate(const Tensor&, const Tensor&, Activation) override {}
  void embed(const Tensor&, const Tensor&, std::span<const int32_t>) override {}
  void patchify(const Tensor&, const Tensor&) override {}
  void flowToX0(const Tensor&, const Tensor&, const Tensor&, float) override {}
  void mix(const Tensor&, const Tensor&, const Tensor&, float) override {}
  void gaussian(const Tensor&, uint64_t, uint32_t, uint32_t) override {}
  void conv(const ConvArgs&) override {}
  void channelNorm(const Tensor&, const Tensor&, const Tensor&, Activation, ByteCode) override {}
  void splitTime(const Tensor&, const Tensor&, int) override {}
  void permute(ChannelOrder, const Tensor&, const Tensor&, const Tensor&, const Tensor&) override {}
  void toRgb8(const Tensor&, const Tensor&, bool) override {}
  void toI420(const Tensor&, const Tensor&) override {}

  const BackendMemory& memory() const { return *memory_; }
  // Scratch of a call in the current lane.
  void need(const Scratch& s) {
    LaneScratch& mine = scratch_[static_cast<size_t>(memory_->scratchOf(lane_))];
    mine.rows.need(s.rows), mine.matrix.need(s.matrix);
    mine.threads = std::max(mine.threads, s.threads);
  }

 private:
  std::unique_ptr<BackendMemory> memory_;
  // Grows when a larger call is met, and keeps what it has outgrown.
  struct Growing {
    void need(size_t bytes) {
      if (bytes > largest) largest = bytes, held += bytes;
    }
    size_t largest = 0, held = 0;
  };
  struct LaneScratch {
    Growing rows, matrix;
    size_t threads = 0;
  };

  size_t held_ = 0, highest_ = 0;
  Lane lane_ = Lane::Main;
  std::array<LaneScratch, static_cast<size_t>(Lane::Count)> scratch_;
};

}  // namespace longlive

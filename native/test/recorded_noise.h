// The draws of a run as the reference recorded them.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "longlive/error.h"
#include "model/sampler.h"

namespace longlive::parity {

// Blocks come in order and may differ in length (a first block of one frame): each begins where the one before it ended.
class RecordedNoise final : public NoiseSource {
 public:
  // What blocks start from, one behind the other, and what is added after a denoising step of a block.
  RecordedNoise(std::vector<float> start, std::function<std::vector<float>(int64_t block, int64_t step)> added)
      : noise_(std::move(start)), added_(std::move(added)) {}

  // Throws Error{InvalidPackage} where the record has too little.
  void fill(Backend& backend, const Tensor& out, int64_t block, int64_t step) override {
    if (step == 0) return backend.upload(out, noise_.data() + beginOf(block, out.elements()));
    const std::vector<float> draws = added_(block, step - 1);
    if (static_cast<int64_t>(draws.size()) != out.elements()) {
      throw Error(ErrorCode::InvalidPackage, "the draws of block " + std::to_string(block) + ", step " + std::to_string(step - 1) + " are not of the block's size");
    }
    backend.upload(out, draws.data());
  }

 private:
  int64_t beginOf(int64_t block, int64_t elements) {
    if (block != block_) begin_ = end_, block_ = block;
    end_ = begin_ + elements;
    if (end_ > static_cast<int64_t>(noise_.size())) throw Error(ErrorCode::InvalidPackage, "the recorded noise ends before the end of block " + std::to_string(block));
    return begin_;
  }

  std::vector<float> noise_;
  std::function<std::vector<float>(int64_t, int64_t)> added_;
  int64_t block_ = -1, begin_ = 0, end_ = 0;  // of the newest block
};

}  // namespace longlive::parity

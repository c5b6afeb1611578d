// The draws of a run as the reference recorded them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "longlive/error.h"
#include "model/sampler.h"

namespace longlive::parity {

// Blocks may differ in length (a first block of one frame): each begins where the one before it ended, so its first draw comes after
// that one's; from then on it may come again at any time, as an abandoned block does.
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
    const auto refuse = [block](const char* why) { throw Error(ErrorCode::InvalidPackage, "the recorded noise " + std::string(why) + " block " + std::to_string(block)); };
    const auto known = begins_.find(block);
    if (known == begins_.end()) refuse("is asked for out of turn for");
    const int64_t end = known->second + elements;
    if (end > static_cast<int64_t>(noise_.size())) refuse("ends before the end of");
    if (begins_.try_emplace(block + 1, end).first->second != end) refuse("was of another size before for");
    return known->second;
  }

  std::vector<float> noise_;
  std::function<std::vector<float>(int64_t, int64_t)> added_;
  std::map<int64_t, int64_t> begins_{{0, 0}};  // of the blocks so far, and of the next
};

}  // namespace longlive::parity

// Helpers of the cases that run the DiT.
#pragma once

#include <cstdint>
#include <vector>

#include "ops.h"

namespace longlive::parity {

// A zero-padded prompt [textLen, textDim] without its padding but for one row.
struct PromptRows {
  std::vector<float> values;
  int64_t tokens = 0, rows = 0;
};
PromptRows promptRows(const std::vector<float>& padded, int64_t textLen, int64_t textDim);

// Head rows [frames * tokens, 4 * channels] -> latents [frames, channels, h, w]; spec 2.2.
std::vector<float> unpatchify(const std::vector<float>& rows, int64_t frames, int64_t channels, int64_t h, int64_t w);

std::vector<float> download(Backend& backend, const Tensor& t);

}  // namespace longlive::parity

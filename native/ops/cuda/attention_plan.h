// What the attention kernels need to know about one call, resolved on the host. Plain C++: tested without a device.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>

#include "ops.h"

namespace longlive::cuda {

constexpr int kMaxKeyRanges = 8;

// Visible rows of K and V as runs of memory. Keys keep the order of AttentionArgs::visible, which bias and the last key's
// bias refer to; runs that touch are joined.
struct KeyRuns {
  int64_t begin[kMaxKeyRanges] = {}, count[kMaxKeyRanges] = {};
  int size = 0;
  int64_t total = 0;

  // Tiles of at most `keys` keys, none across two runs.
  int64_t tiles(int64_t keys) const {
    int64_t n = 0;
    for (int i = 0; i < size; ++i) n += (count[i] + keys - 1) / keys;
    return n;
  }
};

inline KeyRuns planKeys(std::span<const KeyRange> visible, int64_t rows) {
  KeyRuns runs;
  for (const KeyRange& r : visible) {
    if (r.begin < 0 || r.count < 0 || r.begin + r.count > rows) throw std::logic_error("attention: visible keys lie outside the buffer");
    if (r.count == 0) continue;
    runs.total += r.count;
    if (runs.size > 0 && runs.begin[runs.size - 1] + runs.count[runs.size - 1] == r.begin) {
      runs.count[runs.size - 1] += r.count;
      continue;
    }
    if (runs.size == kMaxKeyRanges) throw std::logic_error("attention: too many key ranges");
    runs.begin[runs.size] = r.begin;
    runs.count[runs.size++] = r.count;
  }
  if (runs.total == 0) throw std::logic_error("attention: no visible key");
  return runs;
}

}  // namespace longlive::cuda

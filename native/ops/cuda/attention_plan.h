// What the attention kernels need to know about one call, resolved on the host. Plain C++: tested without a device.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>

#include "ops.h"

namespace longlive::cuda {

constexpr int kMaxKeyRanges = 8;
constexpr int kKeysHopper = 176;    // of a tile of the kernel for Hopper
constexpr int64_t kFewKeys = 128;   // a prompt's: what takes time then is to read queries and to write, which many small blocks do best

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

// -- 8-bit attention (attention_eight.cu) -----------------------------------------------------------------------------------

constexpr int kEightQueries = 128, kEightKeys = 64;  // of a tile
constexpr int kEightKeysHopper = 128;                // of a tile of the kernel for Hopper
constexpr int kEightChunks = 64;                     // of the keys whose mean is taken

// Whether a call may be, and can be, calculated with 8-bit products.
inline bool fitsEightBit(const AttentionArgs& a) {
  const int64_t width = a.q.shape[-1], headDim = a.heads > 0 ? width / a.heads : 0;
  return a.eightBit && a.q.dtype == DType::BF16 && headDim > 0 && headDim % 16 == 0 && headDim <= 128 && !a.bias && a.lastKeyLogBias == 0 && a.scale > 0;
}

// Where a call's quantised operands lie in scratch, in bytes from its beginning. Sized for all rows of K, so that a window that
// fills asks for the same memory from the beginning.
struct EightBitLayout {
  int64_t headBytes = 0;                     // a head's row of Q or K, padded to 64 or 128
  int64_t keyRows = 0;                       // of a head, at most: whole tiles of either kernel
  bool fp8 = false;                          // values in fp8; else they stay where they are
  size_t q = 0, qScale = 0;                  // [heads, queries, headBytes] I8, [heads, queries] F32
  size_t k = 0, kScale = 0;                  // [heads, keyRows, headBytes] I8, [heads, tiles] F32
  size_t v = 0;                              // [heads, headBytes, keyRows] fp8: transposed
  size_t sums = 0, mean = 0, vScale = 0;     // [2, chunks, width], [width], [width] F32
  size_t bytes = 0;
};

inline EightBitLayout layoutEightBit(const AttentionArgs& a, bool fp8) {
  const int64_t width = a.q.shape[-1], queries = a.q.elements() / width, rows = a.k.elements() / width;
  EightBitLayout l;
  l.headBytes = width / a.heads <= 64 ? 64 : 128, l.fp8 = fp8;
  l.keyRows = ((rows + kEightKeysHopper - 1) / kEightKeysHopper + kMaxKeyRanges) * kEightKeysHopper;
  const auto take = [&](int64_t bytes) {
    const size_t at = l.bytes;
    l.bytes += (static_cast<size_t>(bytes) + 255) / 256 * 256;
    return at;
  };
  l.q = take(a.heads * queries * l.headBytes), l.qScale = take(a.heads * queries * 4);
  l.k = take(a.heads * l.keyRows * l.headBytes), l.kScale = take(a.heads * l.keyRows / kEightKeys * 4);
  if (fp8) l.v = take(a.heads * l.keyRows * l.headBytes);
  l.sums = take(2 * kEightChunks * width * 4), l.mean = take(width * 4), l.vScale = take(width * 4);
  return l;
}

}  // namespace longlive::cuda

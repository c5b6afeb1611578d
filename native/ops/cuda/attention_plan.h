// What the attention kernels need to know about one call, resolved on the host. Plain C++: tested without a device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <stdexcept>

#include "operand.h"
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

// What 8-bit attention has made of keys and values, kept beside them so that it makes it of new rows only. It is made page by page: of rows
// from a multiple of `page` on, as many of a page as are seen.
struct KeptKeys {
  Tensor bytes;  // I8, laid out by layoutKept
  int64_t page = 0;
  explicit operator bool() const { return static_cast<bool>(bytes); }
};

// A call of self-attention, with what its store has made for 8-bit products.
struct SelfAttention : AttentionArgs {
  Tensor qScale{};  // [heads, n] F32, where q is I8 by quantizedQueries: [heads, n, headDim]
  KeptKeys kept{};  // of k and v, up to date; `visible` are then the buffers' first rows

  SelfAttention() = default;
  explicit SelfAttention(const AttentionArgs& a) : AttentionArgs(a) {}
};

// Whether a call may be, and can be, calculated with 8-bit products.
inline bool fitsEightBit(const SelfAttention& a) {
  const int64_t width = a.q.shape[-1], headDim = a.heads > 0 ? width / a.heads : 0;
  return a.eightBit && (a.q.dtype == DType::BF16 || a.qScale) && headDim > 0 && headDim % 16 == 0 && headDim <= 128 && !a.bias && a.lastKeyLogBias == 0 && a.scale > 0;
}

// How a kernel takes its operands.
enum class EightBitKernel : uint8_t { Portable, Hopper };
struct EightBitFormat {
  EightBitKernel kernel = EightBitKernel::Portable;
  bool fp8 = false;  // values; else they stay in bf16. Always for Hopper

  int64_t tileKeys() const { return kernel == EightBitKernel::Hopper ? kEightKeysHopper : kEightKeys; }
};

inline int64_t eightBitHeadBytes(int64_t headDim) { return headDim <= 64 ? 64 : 128; }  // a head's row of Q or K, padded

// Takes pieces of memory one behind the other.
struct EightBitTaker {
  size_t bytes = 0;
  size_t take(int64_t n) {
    const size_t at = bytes;
    bytes += padded(static_cast<size_t>(n));
    return at;
  }
};

// Where lies what is made of keys and values, in bytes from its beginning.
struct EightBitKeysLayout {
  int64_t keyRows = 0;           // of a head: whole tiles
  size_t k = 0, kScale = 0;      // [heads, keyRows, headBytes] I8, [heads, tiles] F32
  size_t v = 0;                  // [heads, headBytes, keyRows] fp8: transposed. Only if values are in fp8; else they stay where they are
  size_t mean = 0, vScale = 0;   // [width] F32
  size_t bytes = 0;
};

inline EightBitKeysLayout layoutEightBitKeys(int64_t heads, int64_t headDim, int64_t keyRows, bool fp8) {
  EightBitKeysLayout l;
  EightBitTaker t;
  const int64_t bytes = heads * keyRows * eightBitHeadBytes(headDim), width = heads * headDim * 4;
  l.keyRows = keyRows;
  l.k = t.take(bytes), l.kScale = t.take(heads * keyRows / kEightKeys * 4);
  if (fp8) l.v = t.take(bytes);
  l.mean = t.take(width), l.vScale = t.take(width);
  l.bytes = t.bytes;
  return l;
}

inline int64_t pagesOf(int64_t rows, int64_t page) { return (rows + page - 1) / page; }

// Kept by pages (KeptKeys): every page in whole tiles of its own.
inline EightBitKeysLayout layoutKept(int64_t rows, int64_t page, int64_t heads, int64_t headDim, const EightBitFormat& format) {
  const int64_t keys = format.tileKeys();
  return layoutEightBitKeys(heads, headDim, pagesOf(rows, page) * ((page + keys - 1) / keys) * keys, format.fp8);
}

// Whether 8-bit attention can keep what it makes of so many rows.
inline bool canKeep(int64_t rows, int64_t page, int64_t heads, int64_t headDim) {
  return headDim % 16 == 0 && headDim <= 128 && heads > 0 && page > 0 && pagesOf(rows, page) <= kMaxKeyRanges;
}

// Whether norms can write queries as 8-bit attention takes them: heads of which some fill a warp's vectors, without padding.
inline bool canQuantizeQueries(int64_t width, int64_t heads) {
  return heads > 0 && (width / heads == 64 || width / heads == 128) && width % 256 == 0 && width <= 6 * 256;
}

constexpr uint32_t kAllPages = ~0u;

// A run for each of the pages that have a bit in `pages`, of as many of their rows as are among the first `rows`, in the order of memory.
inline KeyRuns planPages(uint32_t pages, int64_t page, int64_t rows) {
  KeyRuns runs;
  for (int64_t p = 0; p * page < rows; ++p) {
    if (p == kMaxKeyRanges) throw std::logic_error("attention: too many pages");
    if (!(pages >> p & 1)) continue;
    runs.begin[runs.size] = p * page, runs.count[runs.size] = std::min(page, rows - p * page);
    runs.total += runs.count[runs.size++];
  }
  if (runs.total == 0) throw std::logic_error("attention: no pages");
  return runs;
}

// How many rows that is, if what is seen are the first rows of the buffers; else 0.
inline int64_t firstRows(std::span<const KeyRange> visible) {
  int64_t end = 0, count = 0;
  for (const KeyRange& r : visible) end = std::max(end, r.begin + r.count), count += r.count;
  return end == count ? count : 0;
}

// Where a call's operands lie in scratch. Sized for all rows of K, so that a window that fills asks for the same memory from the beginning.
struct EightBitLayout {
  size_t q = 0, qScale = 0;  // [heads, queries, headBytes] I8, [heads, queries] F32; nothing where the call brings them
  size_t sums = 0;           // [2, chunks, width] F32
  size_t keys = 0;           // EightBitKeysLayout; nothing where keys are kept
  EightBitKeysLayout made;
  size_t bytes = 0;
};

inline size_t eightBitSums(int64_t width) { return static_cast<size_t>(2 * kEightChunks * width * 4); }

inline EightBitLayout layoutEightBit(const SelfAttention& a, bool fp8) {
  const int64_t width = a.q.shape[-1], queries = a.q.elements() / width, rows = a.k.elements() / width, headDim = width / a.heads;
  EightBitLayout l;
  EightBitTaker t;
  if (!a.qScale) l.q = t.take(a.heads * queries * eightBitHeadBytes(headDim)), l.qScale = t.take(a.heads * queries * 4);
  l.sums = t.take(static_cast<int64_t>(eightBitSums(width)));
  if (!a.kept) {
    l.made = layoutEightBitKeys(a.heads, headDim, ((rows + kEightKeysHopper - 1) / kEightKeysHopper + kMaxKeyRanges) * kEightKeysHopper, fp8);
    l.keys = t.take(static_cast<int64_t>(l.made.bytes));
  }
  l.bytes = t.bytes;
  return l;
}

}  // namespace longlive::cuda

// Attention: out = softmax(scale * Q K^T + bias) V, per head, never holding more than a tile of the logits.
//
// A task is one head and a tile of queries. It walks over the visible keys in blocks of kKeys:
//   S = Q K^T          K transposed into panels of 32 keys, the micro-kernels of gemm_kernels.h
//   online softmax     m' = max(m, max S), P = e^(S - m'), l = l e^(m - m') + sum P
//   O = O e^(m-m') + P V    V as panels of 32 channels, the same micro-kernels
// and finally divides O by l. Packing a block costs each task keys * headDim moves against tile * keys * headDim
// multiply-adds, a few per cent, and makes a ring of key ranges look like one array.
//
// The blocks of keys do not depend on the tile, so neither does any row's result: tiles may follow the thread count.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "gemm_kernels.h"
#include "kernels.h"
#include "vector_ops.h"

namespace longlive::cpu {
namespace {

constexpr int64_t kKeys = 256;
constexpr int64_t kMaxQueryRows = 96;
static_assert(kKeys <= kBlock, "a block of probabilities is one block of words");

int64_t roundUp(int64_t a, int64_t b) { return ceilDiv(a, b) * b; }

// Sizes that follow from the head and the word: a float, or two bf16.
struct Geometry {
  int perWord;
  int64_t words;       // of one query or key, whole blocks of at most kBlock
  int64_t wordBlocks;
  int64_t outStride;   // headDim in whole panels

  Geometry(int64_t headDim, bool pairs)
      : perWord(pairs ? 2 : 1),
        words(roundUp(ceilDiv(headDim, perWord), 16)),
        wordBlocks(ceilDiv(words, kBlock)),
        outStride(roundUp(headDim, kPanel)) {}

  int64_t blockWords(int64_t b) const { return std::min<int64_t>(kBlock, words - b * kBlock); }
};

// A thread's scratch for one task, in 32-bit words.
struct TaskScratch {
  uint32_t* q;         // [wordBlocks][kMaxQueryRows][kStride]
  float* logits;       // [kMaxQueryRows][kStride]
  uint32_t* rounded;   // [kMaxQueryRows][kStride], probabilities as bf16
  uint32_t* keys;      // [kKeys / 32][words][32]
  uint32_t* values;    // [outStride / 32][keys of the block as words][32]
  float* out;          // [kMaxQueryRows][outStride]
  float* maximum;      // [kMaxQueryRows]
  float* sum;          // [kMaxQueryRows]
  uint32_t* row;       // [words]

  static size_t size(const Geometry& g) {
    return static_cast<size_t>((g.wordBlocks + 2) * kMaxQueryRows * kStride + kKeys * g.words + kKeys * g.outStride +
                               kMaxQueryRows * g.outStride + 2 * kMaxQueryRows + g.words) * 4;
  }
  TaskScratch(void* memory, const Geometry& g) {
    auto* p = static_cast<uint32_t*>(memory);
    const auto take = [&p](int64_t n) { return std::exchange(p, p + n); };
    q = take(g.wordBlocks * kMaxQueryRows * kStride);
    logits = reinterpret_cast<float*>(take(kMaxQueryRows * kStride));
    rounded = take(kMaxQueryRows * kStride);
    keys = take(kKeys * g.words);
    values = take(kKeys * g.outStride);
    out = reinterpret_cast<float*>(take(kMaxQueryRows * g.outStride));
    maximum = reinterpret_cast<float*>(take(kMaxQueryRows));
    sum = reinterpret_cast<float*>(take(kMaxQueryRows));
    row = take(g.words);
  }
};

// Whether products are of pairs of bf16.
bool inPairs(Isa isa, DType kvType) { return kvType == DType::BF16 && isa >= Isa::Avx512Bf16; }

// Walks over the rows of the visible ranges.
class KeyCursor {
 public:
  explicit KeyCursor(std::span<const KeyRange> ranges) : ranges_(ranges) {}

  // The next rows, at most `most`; returns how many.
  int64_t next(int64_t* rows, int64_t most) {
    int64_t n = 0;
    while (n < most && range_ < ranges_.size()) {
      const KeyRange& r = ranges_[range_];
      while (n < most && used_ < r.count) rows[n++] = r.begin + used_++;
      if (used_ >= r.count) ++range_, used_ = 0;
    }
    return n;
  }

 private:
  std::span<const KeyRange> ranges_;
  size_t range_ = 0;
  int64_t used_ = 0;
};

// Strips per task that keep the busiest thread shortest; packing costs a task about as much as half a strip.
int64_t chooseTileRows(int64_t queries, int64_t heads, int stripRows, int threads) {
  const int64_t strips = ceilDiv(queries, stripRows);
  int64_t best = 1;
  double bestTime = 0;
  for (int64_t s = 1; s <= std::min<int64_t>(strips, kMaxQueryRows / stripRows); ++s) {
    const double time = static_cast<double>(ceilDiv(heads * ceilDiv(strips, s), threads)) * (static_cast<double>(s) + 0.5);
    if (s == 1 || time < bestTime) best = s, bestTime = time;
  }
  return best * stripRows;
}

// How one call runs: fixed for all its tasks.
struct AttentionPlan {
  const Context& c;
  const AttentionCall& a;
  const GemmKernel& kernel;
  Geometry g;
  bool pairs;          // multiply bf16; else F32
  int64_t tileRows, totalKeys;
};

void loadQueries(const AttentionPlan& p, const TaskScratch& s, int64_t head, int64_t first, int64_t rows) {
  const int64_t headDim = p.a.headDim, width = p.a.heads * headDim;
  std::memset(s.row, 0, static_cast<size_t>(p.g.words) * 4);
  for (int64_t r = 0; r < rows; ++r) {
    const float* q = p.a.q + (first + r) * width + head * headDim;
    if (p.pairs) p.c.vector.toBf16(reinterpret_cast<bf16*>(s.row), q, headDim);
    else std::memcpy(s.row, q, static_cast<size_t>(headDim) * 4);
    for (int64_t b = 0; b < p.g.wordBlocks; ++b) {
      std::memcpy(s.q + (b * p.tileRows + r) * kStride, s.row + b * kBlock, static_cast<size_t>(p.g.blockWords(b)) * 4);
    }
  }
}

// `words` of a value panel: the block's keys, or pairs of them.
void packBlock(const AttentionPlan& p, const TaskScratch& s, int64_t head, const int64_t* rows, int64_t keys, int64_t words) {
  const int64_t headDim = p.a.headDim, width = p.a.heads * headDim;
  const VectorOps& v = p.c.vector;
  const auto pointers = [&]<class T>(const void* base, const T** out) {
    for (int64_t i = 0; i < keys; ++i) out[i] = static_cast<const T*>(base) + rows[i] * width + head * headDim;
  };
  if (p.a.kvType == DType::F32) {
    const float* at[kKeys];
    pointers(p.a.k, at);
    v.packKeysF32(s.keys, at, keys, headDim, p.g.words);
    pointers(p.a.v, at);
    v.packValuesF32(s.values, at, keys, headDim, words);
  } else {
    const bf16* at[kKeys];
    pointers(p.a.k, at);
    (p.pairs ? v.packKeysPairs : v.packKeysWidened)(s.keys, at, keys, headDim, p.g.words);
    pointers(p.a.v, at);
    (p.pairs ? v.packValuesPairs : v.packValuesWidened)(s.values, at, keys, headDim, words);
  }
}

void runTask(const AttentionPlan& p, const TaskScratch& s, int64_t head, int64_t first, int64_t rows) {
  const AttentionCall& a = p.a;
  const GemmKernel& kernel = p.kernel;
  const auto strip = [&](int64_t r) { return static_cast<int>(std::min<int64_t>(kernel.stripRows, rows - r)); };
  loadQueries(p, s, head, first, rows);
  std::fill_n(s.maximum, rows, -__builtin_inff());
  std::fill_n(s.sum, rows, 0.0f);

  KeyCursor cursor(a.visible);
  int64_t block[kKeys];
  for (int64_t key = 0, keys; (keys = cursor.next(block, kKeys)) > 0; key += keys) {
    const int64_t padded = roundUp(keys, kPanel), words = padded / p.g.perWord;
    packBlock(p, s, head, block, keys, words);

    for (int64_t panel = 0; panel < padded; panel += kPanel) {
      for (int64_t b = 0; b < p.g.wordBlocks; ++b) {
        for (int64_t r = 0; r < rows; r += kernel.stripRows) {
          kernel.run(strip(r), kPanel, static_cast<int>(p.g.blockWords(b)), s.q + (b * p.tileRows + r) * kStride,
                     s.keys + (panel / kPanel * p.g.words + b * kBlock) * kPanel, s.logits + r * kStride + panel, kStride, b > 0);
        }
      }
    }

    const bool last = key + keys == p.totalKeys;
    for (int64_t r = 0; r < rows; ++r) {
      const float shrink = p.c.vector.softmaxRow({
          .logits = s.logits + r * kStride,
          .keys = keys,
          .padded = padded,
          .scale = a.scale,
          .bias = a.bias ? a.bias + head * (a.queries + p.totalKeys - 1) + a.queries - 1 - (first + r) + key : nullptr,
          .lastBias = last ? a.lastKeyLogBias : 0.0f,
          .maximum = s.maximum + r,
          .sum = s.sum + r,
          .rounded = p.pairs ? reinterpret_cast<bf16*>(s.rounded + r * kStride) : nullptr,
      });
      if (key > 0 && shrink != 1.0f) p.c.vector.scaleRow(s.out + r * p.g.outStride, p.g.outStride, shrink);
    }

    const uint32_t* probabilities = p.pairs ? s.rounded : reinterpret_cast<const uint32_t*>(s.logits);
    for (int64_t d = 0; d < a.headDim; d += kPanel) {
      const int columns = static_cast<int>(std::min<int64_t>(kPanel, a.headDim - d));
      for (int64_t r = 0; r < rows; r += kernel.stripRows) {
        kernel.run(strip(r), columns, static_cast<int>(words), probabilities + r * kStride, s.values + d * words,
                   s.out + r * p.g.outStride + d, p.g.outStride, key > 0);
      }
    }
  }

  for (int64_t r = 0; r < rows; ++r) {
    float* out = s.out + r * p.g.outStride;
    p.c.vector.scaleRow(out, a.headDim, 1.0f / s.sum[r]);
    std::memcpy(a.out + ((first + r) * a.heads + head) * a.headDim, out, static_cast<size_t>(a.headDim) * 4);
  }
}

}  // namespace

size_t attentionScratch(Isa isa, DType kvType, int64_t headDim) { return TaskScratch::size(Geometry(headDim, inPairs(isa, kvType))); }

void attention(Context& c, const AttentionCall& a) {
  if (a.queries <= 0) return;
  int64_t totalKeys = 0;
  for (const KeyRange& r : a.visible) totalKeys += r.count;
  if (totalKeys <= 0) throw std::logic_error("attention: no visible key");
  if (a.kvType != DType::F32 && a.kvType != DType::BF16) throw std::logic_error("attention: keys must be F32 or BF16");

  const bool pairs = inPairs(c.isa, a.kvType);
  const GemmKernel& kernel = gemmKernel(c.isa, pairs ? Precision::BF16 : Precision::FP32);
  const Geometry g(a.headDim, pairs);
  const AttentionPlan plan{c, a, kernel, g, pairs, chooseTileRows(a.queries, a.heads, kernel.stripRows, c.pool.threads()), totalKeys};
  const int64_t tiles = ceilDiv(a.queries, plan.tileRows);
  c.pool.parallelFor(0, a.heads * tiles, 1, [&](int64_t begin, int64_t end, int thread) {
    const TaskScratch scratch(c.pool.scratch(thread), g);
    kernel.begin();
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task % tiles * plan.tileRows;
      runTask(plan, scratch, task / tiles, first, std::min(plan.tileRows, a.queries - first));
    }
    kernel.end();
  }, TaskScratch::size(g));
}

}  // namespace longlive::cpu

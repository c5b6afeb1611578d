// Linear layers: out[m, n] = epilogue(sum over k of in[m, k] weight[n, k] + bias[n]).
//
// Weights are packed once into panels of 32 output channels (gemm_kernels.h). A task computes a tile of rows by some
// panels, on one thread:
//   1. its input rows become words: copied (FP32), rounded to bf16, or quantized to bytes with one scale per row. They lie
//      in blocks of at most kBlock words, [block][row][kStride]. Where bf16 is multiplied as floats (operandOf), rows become
//      words of that size once more, and so does a block of weights, in scratch, once for all rows of the tile;
//   2. for every panel and block, the strips of the tile pass over the block of B, which stays in the L1 cache; sums over
//      blocks go through an accumulator tile [rows][32];
//   3. the epilogue turns the accumulators into output while they are still in L1.
// An output element is one chain of multiply-adds in the order of k, whatever the tiles: tiles may follow the thread count
// without changing a bit.
//
// INT8 is W8A8: weight = scale[n] * w8, input = scale[m] * a8, both symmetric. The byte instructions want one unsigned
// operand, so the input is stored as a8 + 128, and 128 * sum_k w8[n, k] is subtracted again in the epilogue.
//
// Widened weights are W8A16: the same panels of bytes meet bf16 input. A block is widened into scratch once for all rows of the
// tile, and scale[n] joins in the epilogue.
#include <algorithm>
#include <cstring>

#include "gemm_kernels.h"
#include "kernels.h"
#include "vector_ops.h"

namespace longlive::cpu {

Precision operandOf(Isa isa, Precision format) {
  return format == Precision::BF16 && isa > Isa::Portable && isa < Isa::Avx512Bf16 ? Precision::FP32 : format;
}

const GemmKernel& gemmKernel(Isa isa, Precision p) {
#if defined(__x86_64__)
  switch (p) {
    case Precision::FP32:
      return isa >= Isa::Avx512 ? avx512::gemmF32 : isa >= Isa::Avx2 ? avx2::gemmF32 : portable::gemmF32;
    case Precision::BF16:
      if (isa >= Isa::Amx) return amx::gemmBf16;
      return isa >= Isa::Avx512Bf16 ? avx512bf16::gemmBf16 : portable::gemmBf16;
    case Precision::INT8:
      if (isa >= Isa::Amx) return amx::gemmInt8;
      if (isa >= Isa::Avx512Vnni) return avx512vnni::gemmInt8;
      return isa >= Isa::Avx512 ? avx512::gemmInt8 : isa >= Isa::Avx2 ? avx2::gemmInt8 : portable::gemmInt8;
    case Precision::FP8: break;  // refused by the backend
  }
#elif defined(__aarch64__)
  if (isa >= Isa::Neon && p == Precision::FP32) return neon::gemmF32;
  if (isa >= Isa::Neon && p == Precision::INT8) return isa >= Isa::NeonDot ? neondot::gemmInt8 : neon::gemmInt8;
#endif
  (void)isa;
  return p == Precision::FP32 ? portable::gemmF32 : p == Precision::BF16 ? portable::gemmBf16 : portable::gemmInt8;
}

namespace {

constexpr int64_t kMaxTileRows = 96;  // with K = 1536 the tile of A fills half of a 1 MiB L2

// Blocks of the words of a row: equally long, a multiple of 16.
struct Blocks {
  int64_t words, count, length;
  explicit Blocks(int64_t w) : words(w), count(ceilDiv(w, kBlock)), length(ceilDiv(ceilDiv(w, count), 16) * 16) {}
  int64_t begin(int64_t b) const { return b * length; }
  int64_t size(int64_t b) const { return std::min(length, words - b * length); }
};

// A thread's scratch for one task.
struct TileScratch {
  uint32_t* a;      // [blocks][rows][kStride]
  void* acc;        // [rows][32]
  float* rowScale;  // [rows]
  uint32_t* wide;   // [kBlock][32] a block of widened weights
  uint8_t* bytes;   // one row as words, [words]

  static size_t size(int64_t blocks, int64_t words) {
    return static_cast<size_t>(blocks * kMaxTileRows * kStride + kMaxTileRows * kPanel + kMaxTileRows + kBlock * kPanel + words) * 4;
  }
  TileScratch(void* memory, int64_t blocks) {
    a = static_cast<uint32_t*>(memory);
    uint32_t* p = a + blocks * kMaxTileRows * kStride;
    acc = p;
    rowScale = reinterpret_cast<float*>(p + kMaxTileRows * kPanel);
    wide = p + kMaxTileRows * kPanel + kMaxTileRows;
    bytes = reinterpret_cast<uint8_t*>(wide + kBlock * kPanel);
  }
};

// How a layer is multiplied here.
struct Operands {
  Precision format, operand;  // what the input is rounded to, and what meets in the kernel
  int64_t perPanelWord;       // words of the input that a word of a panel meets
  Blocks blocks;              // of the input's words

  Operands(Isa isa, const PackedLinear& w)
      : format(w.inputFormat()), operand(operandOf(isa, format)),
        perPanelWord(elementsPerWord(w.format) / elementsPerWord(operand)), blocks(w.words * perPanelWord) {}
};

// Input rows -> words in the layout of TileScratch::a.
void convertRows(const VectorOps& v, const TileScratch& s, const float* in, int64_t rows, const PackedLinear& w,
                 const Operands& o, int64_t tileRows) {
  const Blocks& blocks = o.blocks;
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = in + r * w.in;
    if (o.format == Precision::INT8) {
      const float highest = v.absMaximum(x, w.in);
      s.rowScale[r] = highest / 127.0f;
      v.quantize(s.bytes, x, w.in, highest > 0 ? 127.0f / highest : 0.0f);
    } else if (o.operand == Precision::BF16) {
      v.toBf16(reinterpret_cast<bf16*>(s.bytes), x, w.in);
    } else if (o.format == Precision::BF16) {
      v.throughBf16(reinterpret_cast<float*>(s.bytes), x, w.in);
    } else {
      std::memcpy(s.bytes, x, static_cast<size_t>(w.in) * 4);
    }
    const int64_t used = w.in * (4 / elementsPerWord(o.operand));
    std::memset(s.bytes + used, 0, static_cast<size_t>(blocks.words * 4 - used));
    for (int64_t b = 0; b < blocks.count; ++b) {
      std::memcpy(s.a + (b * tileRows + r) * kStride, s.bytes + blocks.begin(b) * 4, static_cast<size_t>(blocks.size(b)) * 4);
    }
  }
}

// How many rows and panels one task takes.
struct Tiling {
  int64_t rows, panels;
};

// Minimises the time of the busiest thread. In units of one strip times one panel, converting the strip's rows costs about
// a third and bringing a panel into L1 about a fifth. Among equals the smallest tasks win: they balance a busy machine.
Tiling chooseTiling(int64_t rows, int64_t panels, int stripRows, int threads) {
  const int64_t strips = ceilDiv(rows, stripRows), most = std::max<int64_t>(1, kMaxTileRows / stripRows);
  Tiling best{};
  double bestTime = 0;
  for (int64_t s = 1; s <= std::min(strips, most); ++s) {
    for (int64_t split = 1; split <= std::min<int64_t>(panels, 16); ++split) {
      const int64_t p = ceilDiv(panels, split);
      const int64_t tasks = ceilDiv(strips, s) * ceilDiv(panels, p);
      const double task = static_cast<double>(s * p) + 0.3 * static_cast<double>(s) + 0.2 * static_cast<double>(p) + 0.2;
      const double time = static_cast<double>(ceilDiv(tasks, threads)) * task;
      if (best.rows == 0 || time < bestTime) best = {s * stripRows, p}, bestTime = time;
    }
  }
  return best;
}

// Panel words of one block, as the kernel wants them.
const uint32_t* panelBlock(const Context& c, const TileScratch& s, const PackedLinear& w, const Operands& o, const uint32_t* panel,
                           int64_t block) {
  const uint32_t* from = panel + o.blocks.begin(block) / o.perPanelWord * kPanel;
  if (o.perPanelWord == 1) return from;
  const auto widen = w.format == Precision::BF16 ? c.vector.floatPairs : o.operand == Precision::FP32 ? c.vector.floatBytes : c.vector.widenPanel;
  widen(s.wide, from, o.blocks.size(block) / o.perPanelWord);
  return s.wide;
}

}  // namespace

size_t linearScratch(int64_t inputWords) { return TileScratch::size(Blocks(inputWords).count, inputWords); }

void linear(Context& c, void* out, const float* in, int64_t rows, const PackedLinear& w, const LinearEpilogue& e) {
  if (rows <= 0) return;
  const Operands operands(c.isa, w);
  const GemmKernel& kernel = gemmKernel(c.isa, operands.operand);
  const Blocks& blocks = operands.blocks;
  const int64_t panels = ceilDiv(w.out, kPanel);
  const Tiling tiling = chooseTiling(rows, panels, kernel.stripRows, c.pool.threads());
  const int64_t rowTiles = ceilDiv(rows, tiling.rows), panelTiles = ceilDiv(panels, tiling.panels);
  const size_t outBytes = e.outType == DType::BF16 ? 2 : 4;

  c.pool.parallelFor(0, rowTiles * panelTiles, 1, [&](int64_t begin, int64_t end, int thread) {
    const TileScratch scratch(c.pool.scratch(thread), blocks.count);
    kernel.begin();
    for (int64_t task = begin; task < end; ++task) {
      const int64_t firstRow = task / panelTiles * tiling.rows, tileRows = std::min(tiling.rows, rows - firstRow);
      const int64_t firstPanel = task % panelTiles * tiling.panels, endPanel = std::min(panels, firstPanel + tiling.panels);
      convertRows(c.vector, scratch, in + firstRow * w.in, tileRows, w, operands, tiling.rows);

      for (int64_t panel = firstPanel; panel < endPanel; ++panel) {
        const uint32_t* weights = w.panels.as<uint32_t>() + panel * w.words * kPanel;
        const int64_t column = panel * kPanel, columns = std::min<int64_t>(kPanel, w.out - column);
        for (int64_t block = 0; block < blocks.count; ++block) {
          const uint32_t* b = panelBlock(c, scratch, w, operands, weights, block);
          for (int64_t r = 0; r < tileRows; r += kernel.stripRows) {
            kernel.run(static_cast<int>(std::min<int64_t>(kernel.stripRows, tileRows - r)), static_cast<int>(columns),
                       static_cast<int>(blocks.size(block)), scratch.a + (block * tiling.rows + r) * kStride,
                       b, static_cast<uint32_t*>(scratch.acc) + r * kPanel, kPanel, block > 0);
          }
        }
        const int64_t at = firstRow * w.out + column;
        c.vector.finishLinear({
            .acc = scratch.acc,
            .rows = tileRows,
            .columns = columns,
            .bias = w.bias.as<float>() + column,
            .columnScale = w.format == Precision::INT8 ? w.scale.as<float>() + column : nullptr,
            .columnSum = operands.format == Precision::INT8 ? w.sum.as<int32_t>() + column : nullptr,
            .rowScale = scratch.rowScale,
            .activation = e.activation,
            .out = static_cast<char*>(out) + static_cast<size_t>(at) * outBytes,
            .outBf16 = e.outType == DType::BF16,
            .width = w.out,
            .multiply = e.multiply ? e.multiply + at : nullptr,
            .residual = e.residual ? e.residual + at : nullptr,
            .gate = e.gate ? e.gate + column : nullptr,
            .firstRow = firstRow,
            .rowsPerGate = e.gate ? rows / e.gateRows : 1,
        });
      }
    }
    kernel.end();
  }, linearScratch(blocks.words));
}

}  // namespace longlive::cpu

// Serial vector kernels on rows: what gemm.cpp, attention.cpp and norms.cpp do between and around matrix products. One
// table of functions per instruction set; vector_ops_impl.h is their only source.
#pragma once

#include <cstdint>

#include "cpu_features.h"
#include "ops.h"

namespace longlive::cpu {

using bf16 = uint16_t;  // the upper half of an F32

// Turns accumulators of a tile, acc [rows][32], into output elements; ops.h, Epilogue.
struct LinearFinish {
  const void* acc;            // F32, or I32 when columnSum is set
  int64_t rows, columns;      // columns <= 32
  const float* bias;          // [32] of this panel
  const float* columnScale;   // 8-bit weights: out = acc * columnScale + bias, or with 8-bit input, which has a sum,
  const int32_t* columnSum;   // out = (acc - 128 * columnSum) * rowScale * columnScale + bias
  const float* rowScale;      // [rows]
  Activation activation;
  void* out;                  // first element of the tile
  bool outBf16;
  int64_t width;              // of the rows of out, multiply, residual and gate
  const float* multiply;      // at the tile, or null
  const float* residual;
  const float* gate;          // at the tile's columns of gate row 0, or null
  int64_t firstRow;           // row i of the tile uses gate row (firstRow + i) / rowsPerGate
  int64_t rowsPerGate;
};

// One row of logits of one key block. The logits become probabilities relative to the running maximum.
struct SoftmaxRow {
  float* logits;         // [padded]; entries from `keys` on become 0
  int64_t keys, padded;  // padded is a multiple of 32
  float scale;
  const float* bias;     // [keys] or null
  float lastBias;        // added to the logit of the last key
  float* maximum;        // running maximum and sum of this row
  float* sum;
  bf16* rounded;         // receives the probabilities rounded, [padded], or null: they stay in `logits`
};

struct VectorOps {
  const char* name;
  void (*toBf16)(bf16* out, const float* in, int64_t n);  // nearest even; NaN stays NaN; denormals may become 0
  void (*fromBf16)(float* out, const bf16* in, int64_t n);
  void (*throughBf16)(float* out, const float* in, int64_t n);  // as toBf16 rounds, but F32 again
  float (*absMaximum)(const float* in, int64_t n);
  bool (*allFinite)(const float* in, int64_t n);
  bool (*allFiniteBf16)(const bf16* in, int64_t n);
  void (*quantize)(uint8_t* out, const float* in, int64_t n, float inverse);  // round(in * inverse) + 128
  // A panel of words of four signed bytes, [words][32], as words of two bf16, [2 * words][32].
  void (*widenPanel)(uint32_t* out, const uint32_t* in, int64_t words);
  // A panel of words of two bf16 or of four signed bytes as floats, [2 * words][32] or [4 * words][32].
  void (*floatPairs)(uint32_t* out, const uint32_t* in, int64_t words);
  void (*floatBytes)(uint32_t* out, const uint32_t* in, int64_t words);
  void (*finishLinear)(const LinearFinish& f);
  float (*softmaxRow)(const SoftmaxRow& s);                   // returns the factor by which earlier sums must shrink
  void (*scaleRow)(float* row, int64_t n, float factor);      // row *= factor
  // Keys become panels of 32 keys: out [ceil(keys/32)][words][32] words, transposed; `row(i)` points at a head's slice of
  // key i. A word is a float (F32 keys, or BF16 keys widened) or two bf16 (pairs); the padding is zero.
  void (*packKeysF32)(uint32_t* out, const float* const* rows, int64_t keys, int64_t headDim, int64_t words);
  void (*packKeysWidened)(uint32_t* out, const bf16* const* rows, int64_t keys, int64_t headDim, int64_t words);
  void (*packKeysPairs)(uint32_t* out, const bf16* const* rows, int64_t keys, int64_t headDim, int64_t words);
  // Values become panels of 32 channels: out [ceil(headDim/32)][words][32] words; a word is the value of one key, or of
  // two neighbouring keys.
  void (*packValuesF32)(uint32_t* out, const float* const* rows, int64_t keys, int64_t headDim, int64_t words);
  void (*packValuesWidened)(uint32_t* out, const bf16* const* rows, int64_t keys, int64_t headDim, int64_t words);
  void (*packValuesPairs)(uint32_t* out, const bf16* const* rows, int64_t keys, int64_t headDim, int64_t words);
  // (in - mean) / sqrt(variance + eps) * (weight + addOne) + bias
  void (*layerNorm)(float* out, const float* in, int64_t n, const float* weight, const float* bias, float addOne, float eps);
  void (*rmsNorm)(float* out, const float* in, int64_t n, const float* weight, float eps);
  // out = in * cosine + swapped pairs of in * sine, for each head; tables [headDim]
  void (*rotate)(float* out, const float* in, int64_t heads, int64_t headDim, const float* cosine, const float* sine);
  void (*activate)(float* out, const float* in, int64_t n, Activation a);
  void (*add)(float* out, const float* a, const float* b, int64_t n);
};

const VectorOps& vectorOps(Isa isa);

namespace portable { extern const VectorOps vectorOps; }
#if defined(__x86_64__)
namespace avx2 { extern const VectorOps vectorOps; }
namespace avx512 { extern const VectorOps vectorOps; }
namespace avx512bf16 { extern const VectorOps vectorOps; }
#elif defined(__aarch64__)
namespace neon { extern const VectorOps vectorOps; }
#endif

}  // namespace longlive::cpu

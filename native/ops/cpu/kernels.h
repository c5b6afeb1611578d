// The CPU kernels: free functions over raw pointers and sizes, threaded by a pool, with the instruction set picked at run
// time. cpu_backend.cpp checks shapes and forwards here; tests and benchmarks call these directly.
//
// Conventions
//  * Activations are F32 and row-major. A "row" is a token.
//  * Every function gives the same bits for any number of threads: an output element is computed by one thread, in an
//    order that depends on the shapes alone. Different instruction sets may differ in the last bits.
//  * `out` may alias an input where both have the same type and row layout and the comment says "in place".
//  * Nothing allocates once scratch has grown to its final size; pack* grow it at preparation.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "../ops.h"
#include "cpu_features.h"
#include "thread_pool.h"

namespace longlive::cpu {

using bf16 = uint16_t;  // the upper half of an F32

struct VectorOps;  // serial vector kernels of one instruction set, vector_ops.h

// What every kernel needs: who computes and with which instructions.
struct Context {
  ThreadPool& pool;
  Isa isa;
  const VectorOps& vector;

  Context(ThreadPool& pool, Isa isa);
};

// -- linear layers (gemm.cpp) -----------------------------------------------------------------------------------------------

// A weight matrix in the layout the micro-kernels read; gemm_kernels.h says how.
struct PackedLinear : LinearWeights {
  Precision format = Precision::FP32;
  // INT8 weights that meet bf16 input: each block of a panel is widened to bf16 just before it is used.
  bool widened = false;
  int64_t words = 0;     // 32-bit words of one output channel: in, in/2 or in/4, rounded up to 16
  AlignedBuffer panels;  // [ceil(out/32)][words][32] words
  AlignedBuffer bias;    // [ceil(out/32) * 32] F32, zero when the layer has none
  AlignedBuffer scale;   // INT8: [ceil(out/32) * 32] F32: weight = scale * int8
  AlignedBuffer sum;     // INT8, not widened: [ceil(out/32) * 32] I32: sum of the int8 weights of an output channel

  Precision inputFormat() const { return widened ? Precision::BF16 : format; }
};

// Also reserves the scratch that linear() will need. `widened` needs format INT8 and a matrix of I8. bias [out] or null.
// Throws Error{InvalidPackage} naming the matrix if it holds NaN or infinity. (pack.cpp)
std::unique_ptr<PackedLinear> packLinear(Context& c, const StoredMatrix& weight, const float* bias, Precision format,
                                         bool widened = false);
// Of each thread: what packLinear asks for, and linear() with what it makes; and the latter alone, by the words of an input row.
size_t packedLinearScratch(Isa isa, int64_t in, Precision format, bool widened);
size_t linearScratch(int64_t inputWords);
// LinearWeights::bytes of what packLinear makes.
size_t linearBytes(int64_t out, int64_t in, Precision format, bool widened);

struct LinearEpilogue {
  Activation activation = Activation::None;
  const float* multiply = nullptr;  // [rows, out]
  const float* residual = nullptr;  // [rows, out]; may be `out` itself
  const float* gate = nullptr;      // [gateRows, out]; row i uses gate row i / (rows / gateRows)
  int64_t gateRows = 1;
  DType outType = DType::F32;       // or BF16: values go straight into a KV buffer
};

// out[rows, W.out] = residual + gate * (multiply * act(in[rows, W.in] W^T + b))
void linear(Context& c, void* out, const float* in, int64_t rows, const PackedLinear& w, const LinearEpilogue& e = {});

// -- attention (attention.cpp) ----------------------------------------------------------------------------------------------

struct AttentionCall {
  float* out;                         // [queries, heads * headDim]
  const float* q;                     // [queries, heads * headDim]
  const void* k;                      // [rows, heads * headDim], F32 or BF16
  const void* v;
  DType kvType;
  std::span<const KeyRange> visible;  // rows of k and v that every query sees
  int64_t queries, heads, headDim;
  float scale;
  const float* bias = nullptr;        // [heads, queries + keys - 1] by key - query + queries - 1
  float lastKeyLogBias = 0.0f;
};

// out = softmax(scale * q k^T + bias) v, per head. With BF16 keys, q and the probabilities are rounded to bf16 as well
// (as FlashAttention does) where the processor multiplies bf16; sums and the softmax are F32 in every case. Throws
// std::logic_error when no key is visible.
void attention(Context& c, const AttentionCall& a);
size_t attentionScratch(Isa isa, DType kvType, int64_t headDim);  // of each thread

// -- 8-bit keys and values (bytes.cpp) ---------------------------------------------------------------------------------------

// Rows of `width` values in `groups` equal parts: scale = largest magnitude of the part / 127, byte = round(value / scale).
void toBytes(Context& c, int8_t* bytes, float* scales, const float* in, int64_t rows, int64_t width, int64_t groups);
// out = scale * byte, F32 or BF16.
void fromBytes(Context& c, void* out, DType outType, const int8_t* bytes, const float* scales, int64_t rows, int64_t width,
               int64_t groups);
// Values become (1 - s) of themselves and s of the others', rounded as toBytes rounds.
void mixBytes(Context& c, int8_t* bytes, float* scales, const int8_t* otherBytes, const float* otherScales, int64_t rows, int64_t width,
              int64_t groups, float s);

// -- normalisation and rotation (norms.cpp) ---------------------------------------------------------------------------------

// LayerNorm without parameters * (1 + scale) + shift; scale, shift [frames, width]. In place.
void layerNormModulate(Context& c, float* out, const float* in, int64_t rows, int64_t width, const float* scale,
                       const float* shift, int64_t frames, float eps);
// LayerNorm * weight + bias. In place.
void layerNormAffine(Context& c, float* out, const float* in, int64_t rows, int64_t width, const float* weight,
                     const float* bias, float eps);
// x * rsqrt(mean(x^2) + eps) * weight. In place when outType is F32.
void rmsNorm(Context& c, void* out, DType outType, const float* in, int64_t rows, int64_t width, const float* weight,
             float eps);

// Scratch of each thread of the norms that rotate or round, and of the rotation alone; headDim 0 where nothing is rotated.
size_t rowScratch(int64_t width, int64_t headDim);

// Tables of cos/sin pairs as in RopeTables; t + h + w = headDim / 2.
struct RopeShape {
  const float* temporal;             // [positions, t, 2]
  const float* row;                  // [gridHeight, h, 2]
  const float* column;               // [gridWidth, w, 2]
  int64_t t, h, w;
  int64_t gridHeight, gridWidth;
  int64_t heads;
  std::span<const int32_t> position;  // temporal position of each frame
};

// rmsNorm, then the rotation; rows = frames * gridHeight * gridWidth. In place when outType is F32.
void rmsNormRope(Context& c, void* out, DType outType, const float* in, int64_t rows, int64_t width, const float* weight,
                 float eps, const RopeShape& rope);
// The rotation alone; in and out are each F32 or BF16. In place when the types are equal.
void rope(Context& c, void* out, DType outType, const void* in, DType inType, int64_t rows, int64_t width,
          const RopeShape& rope);

// -- elementwise (elementwise.cpp) ------------------------------------------------------------------------------------------

void activate(Context& c, float* out, const float* in, int64_t n, Activation a);                       // in place
void add(Context& c, float* out, const float* a, const float* b, int64_t n, int64_t period);           // b repeats; in place
void toBf16(Context& c, bf16* out, const float* in, int64_t n);   // round to nearest even, NaN stays NaN
void fromBf16(Context& c, float* out, const bf16* in, int64_t n);

// n standard normal values, four from each counter (index / 4 in 64 bits, block, step) of Philox4x32-10 keyed by `seed`, by
// Box-Muller. Only IEEE double operations in a fixed order, so that every machine gives the same bits.
void gaussian(Context& c, float* out, int64_t n, uint64_t seed, uint32_t block, uint32_t step);

}  // namespace longlive::cpu

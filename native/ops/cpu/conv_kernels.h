// What one instruction set offers to the convolution and the volume operations: a table of plain functions. Each
// conv_<isa>.cpp fills one in; conv.cpp and volume.cpp pick a table at run time and know nothing of intrinsics.
#pragma once

#include <cstdint>
#include <cstring>

#include "../ops.h"

namespace longlive::cpu {

struct Bf16 { uint16_t bits; };

// Output channels are computed in blocks of 16 lanes, one or two blocks at a time.
constexpr int kConvLanes = 16;
constexpr int kMaxConvBlocks = 2;
constexpr int kMaxTilePixels = 24;

// A tile is some neighbouring pixels of one output row. Channels-last makes everything that one output pixel sees of
// one input row contiguous (kw * C_in numbers, a "run"), so a tile is
//   acc[p][c] = sum over rows r, k < run of rows[r][p * pixelStride + k] * weights[r][k][c]
struct ConvTile {
  const void* const* rows;     // F32, BF16 or U8
  const void* const* weights;  // same type, of U8 I8: [run / step][16 * blocks][step]
  int rowCount;
  int run;                     // a multiple of ConvKernels::step; the padding has zero weights
  int64_t pixelStride;         // elements
  const int32_t* offset = nullptr;  // of bytes: what is added to sums, by lane
  const float* scale = nullptr;    // and what they are multiplied by
};

// acc [pixels][lanes] -> out, with bias, activation and residual as in Backend::ConvArgs.
struct ConvFinish {
  void* out;
  const void* residual;  // may be null
  int64_t outStride, residualStride;  // elements between pixels
  DType outType, residualType;
  const float* bias;     // padded to lanes
  Activation activation;
  bool activationAfterResidual;
  int pixels, channels, lanes;
};

struct NormRows {
  void* out;
  const void* in;
  const float* gamma;
  DType outType, inType;
  int64_t pixels, channels;
  Activation activation;
  ByteCode code;  // of U8
};

struct ConvKernels {
  const char* name;
  DType input;                  // element type of rows and weights
  int step;                     // inputs per weight lane: 1 for F32, 2 for BF16, 4 for U8
  int maxBlocks;
  int pixels[kMaxConvBlocks];   // tile width with 1 and 2 blocks
  void (*accumulate[kMaxConvBlocks])(const ConvTile&, float* acc);
  void (*finish)(const ConvFinish&, const float* acc);
  void (*norm)(const NormRows&);
  float largestWeight = 127;    // of bytes: less where sums of two products have only 16 bits
};

const ConvKernels& portableConvKernels();
#if defined(__x86_64__)
const ConvKernels& avx2ConvKernels();
const ConvKernels& avx2ByteConvKernels();
const ConvKernels& avx512ConvKernels();
const ConvKernels& avx512Bf16ConvKernels();
const ConvKernels& avx512VnniConvKernels();
#elif defined(__aarch64__)
const ConvKernels& neonConvKernels();
const ConvKernels& neonDotConvKernels();
#endif

}  // namespace longlive::cpu

// Convolution of channels-last volumes on the CPU: Backend::prepareConv and Backend::conv forward here.
//
//   out[t, y, x, o] = act(b[o] + sum_{dt, dy, dx, i} W[o, i, dt, dy, dx] in[t*st + dt - pt, y*s + dy - py, x*s + dx - px, i])
//
// Nothing is materialised: there is no im2col, no padded copy and no upsampled image. In a channels-last volume the inputs
// of one output pixel in one input row are contiguous, so a convolution is, for every tile of neighbouring output pixels,
// kt * kh short matrix products whose left operands are read straight from the volume (conv_kernels.h). Rows outside the
// volume contribute nothing and are skipped; only the tiles at the left and right edge read a small zero-filled copy.
// A nearest 2x upsampling in front of a 3x3 kernel is folded into the weights: each of the four output phases (even/odd
// row, even/odd column) sees 2x2 distinct inputs, so nine multiplications become four; so do the sixteen of a transposed 4x4 kernel. Convolutions with few output
// channels compute several neighbouring pixels in one vector.
#pragma once

#include "kernels.h"

namespace longlive::cpu {

// The element type that conv() takes as input: BF16 where the precision allows it and the processor multiplies bf16.
// U8 where a convolution comes with bounds and the processor multiplies bytes.
DType convInputType(Isa isa, Precision precision, bool bounded = false);

// weight [out, in, kt, kh, kw] and bias [out] (or null) in F32. Where `bounds` are given and the processor multiplies bytes, below FP32, inputs
// are bytes of the result's code and weights bytes with a scale per output channel (docs/decisions/0045); else INT8 packs as BF16.
// Throws std::logic_error when kt * kh exceeds 16 or upsample2x comes with a kernel other than 3x3 and 4x4.
std::unique_ptr<ConvWeights> packConv(Context& c, Precision precision, const float* weight, const float* bias, int64_t out,
                                      int64_t in, int kt, int kh, int kw, bool upsample2x, Bounds bounds);

// ConvWeights::bytes of what packConv makes, and the scratch of each thread that it and conv() ask for.
struct ConvSize {
  size_t bytes = 0, scratch = 0;
};
ConvSize convSize(Isa isa, Precision precision, int64_t out, int64_t in, int kt, int kh, int kw, bool upsample2x, bool bounded);

// Throws std::logic_error for shapes or types that do not fit together.
void conv(Context& c, const Backend::ConvArgs& a);

}  // namespace longlive::cpu

// Matrix products and convolutions as one thing: C[m, n] = sum over k of A[m, k] B[n, k], where row m of A is what output
// pixel m sees of a channels-last volume, taps outermost: k = ((dt kh + dy) kw + dx) channels + c. A linear layer is a
// volume of one row of pixels under a 1x1x1 kernel. Nothing is ever gathered into memory ("im2col"): tiles of A are read
// from the volume itself, and padding, causal history and nearest upsampling are only ways to compute an address.
#pragma once

#include "kernels.h"
#include "operand.h"

namespace longlive::cuda {

// What one launch multiplies. For nearest upsampling the four parities ("phases") of an output pixel are four products with
// 2x2 kernels; phase p = 2 (y odd) + (x odd) moves the window by its parity.
struct Gather {
  const void* in = nullptr;
  const void* history = nullptr;
  int64_t frames = 1;              // of the output
  int gridHeight = 1, gridWidth = 1;  // output pixels per frame (per phase)
  int height = 1, width = 1, channels = 1;
  int kt = 1, kh = 1, kw = 1;
  int strideT = 1, stride = 1, padTop = 0, padLeft = 0;
  int firstFrame = 0;              // output frame t sees frames t strideT - firstFrame + dt
  int olderFrames = 0;             // frames of `history`
  int scale = 1;                   // 2: upsampling, grid.z = 4 phases

  __host__ __device__ int64_t rows() const { return frames * gridHeight * gridWidth; }
  __host__ __device__ int64_t depth() const { return static_cast<int64_t>(kt) * kh * kw * channels; }
};

// B on the device. Bf16, Int8 and Fp8: rows padded with zeros to whole chunks of 64 bytes, for tensor cores. F32: not padded, for
// the plain kernel, which also takes volumes of bf16 whose channels do not come in groups of 16 bytes.
struct PackedMatrix {
  const void* data = nullptr;  // [phases][columns][stride]
  Operand operand = Operand::F32;
  int64_t columns = 0, stride = 0;
  const float* bias = nullptr;         // [columns] or null
  const float* columnScale = nullptr;  // Int8, Fp8: [columns]
};

struct Finish {
  Tensor out, residual;          // F32 or BF16 each; rows x columns
  Tensor multiply, gate;         // linear layers; as Epilogue
  const float* rowScale = nullptr;  // Int8, Fp8: [rows]
  Activation activation = Activation::None;
  bool activationAfterResidual = false;
};

// `inType` is the element type of Gather::in (the plain kernel takes both floats).
void multiply(cudaStream_t stream, const Gather& a, DType inType, const PackedMatrix& b, const Finish& finish);

// The same for convolutions on Hopper (conv_sm90.cu), on a device of so many multiprocessors; false, and nothing done, if it is not for this one.
bool convHopper(cudaStream_t stream, const Gather& a, const PackedMatrix& b, const Finish& finish, int multiprocessors);

// The same for linear layers in int8 on Hopper (linear_sm90.cu): `in` in bytes with a scale per row, results those of `multiply`.
bool linearHopper(cudaStream_t stream, const LinearRows& in, const PackedMatrix& b, const Finish& finish);

// Whether the current device has fp8 and this build code for it.
bool hasFp8();

// out[row][k] = columnScale[row] * byte, in bf16, rows `stride` elements apart; what is behind the bytes' stride is not read.
void widenRows(cudaStream_t stream, void* out, int64_t stride, const PackedMatrix& bytes);

// Columns per tile, 32, 64, 96 or 128: fewest computed in vain, then the widest.
int tileColumns(int64_t columns);

}  // namespace longlive::cuda

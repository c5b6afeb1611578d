// What the tensor-core and the plain matrix kernel share: addresses of A and the epilogue.
#pragma once

#include "device.cuh"
#include "gemm.h"

namespace longlive::cuda {

// The top left corner of what a row of A sees. Rows behind the last one see nothing.
struct Window {
  int64_t frame;
  int y, x;
  bool inside;
};

__device__ __forceinline__ Window windowOf(const Gather& g, int64_t row, int phase) {
  const int x = static_cast<int>(row % g.gridWidth), y = static_cast<int>(row / g.gridWidth % g.gridHeight);
  const int64_t t = row / g.gridWidth / g.gridHeight;
  return {t * g.strideT - g.firstFrame, y * g.stride - g.padTop + phase / 2, x * g.stride - g.padLeft + phase % 2, t < g.frames};
}

// The channels of one tap, or null where there are only zeros.
template <class Element>
__device__ __forceinline__ const Element* pixelAt(const Gather& g, const Window& w, int dt, int dy, int dx) {
  const int64_t frame = w.frame + dt;
  const int y = w.y + dy, x = w.x + dx;
  if (!w.inside || y < 0 || y >= g.height || x < 0 || x >= g.width || frame < -g.olderFrames) return nullptr;
  const Element* base = frame >= 0 ? static_cast<const Element*>(g.in) : static_cast<const Element*>(g.history);
  return base + (((frame >= 0 ? frame : frame + g.olderFrames) * g.height + y) * g.width + x) * g.channels;
}

__device__ __forceinline__ int64_t outputRow(const Gather& g, int64_t row, int phase) {
  if (g.scale == 1) return row;
  const int64_t x = row % g.gridWidth, y = row / g.gridWidth % g.gridHeight, t = row / g.gridWidth / g.gridHeight;
  return (t * 2 * g.gridHeight + 2 * y + phase / 2) * 2 * g.gridWidth + 2 * x + phase % 2;
}

// The epilogue. Where out is bf16, every step is rounded as if it were its own operation (spec 2.8).
struct Output {
  AnyPointer out, residual, multiply, gate;
  const float *bias, *rowScale, *columnScale;
  int64_t rowsPerGate;
  Activation activation;
  bool activationAfterResidual;

  __device__ __forceinline__ float stored(float x) const { return out.isBf16 ? rounded<bf16>(x) : x; }
  __device__ __forceinline__ float active(float x) const { return out.isBf16 ? activated<bf16>(x, activation) : activated<float>(x, activation); }

  __device__ __forceinline__ float value(int64_t row, int64_t outRow, int64_t column, int64_t columns, float x) const {
    if (rowScale) x *= rowScale[row] * columnScale[column];
    if (bias) x += bias[column];
    x = stored(x);
    const int64_t at = outRow * columns + column;
    if (activation != Activation::None && !activationAfterResidual) x = stored(active(x));
    if (multiply.data) x = stored(x * multiply.get(at));
    if (gate.data) x = stored(x * gate.get(row / rowsPerGate * columns + column));
    if (residual.data) x += residual.get(at);
    if (activation != Activation::None && activationAfterResidual) x = active(stored(x));
    return x;
  }

  __device__ __forceinline__ void put(int64_t row, int64_t outRow, int64_t column, int64_t columns, float x) const {
    if (column < columns) out.set(outRow * columns + column, value(row, outRow, column, columns, x));
  }

  // Eight neighbours at once; column and columns are multiples of 8.
  __device__ __forceinline__ void put8(int64_t row, int64_t outRow, int64_t column, int64_t columns, float (&x)[8]) const {
    const int64_t at = outRow * columns + column;
    float y[8];
    const auto each = [&](auto f) {
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] = f(x[i], y[i]);
    };
    if (rowScale) {
      load<8>(y, columnScale + column);
      const float scale = rowScale[row];
      each([scale](float a, float b) { return a * (scale * b); });
    }
    if (bias) {
      load<8>(y, bias + column);
      each([](float a, float b) { return a + b; });
    }
    each([this](float a, float) { return stored(a); });
    if (activation != Activation::None && !activationAfterResidual) each([this](float a, float) { return stored(active(a)); });
    if (multiply.data) {
      multiply.get8(y, at);
      each([this](float a, float b) { return stored(a * b); });
    }
    if (gate.data) {
      gate.get8(y, row / rowsPerGate * columns + column);
      each([this](float a, float b) { return stored(a * b); });
    }
    if (residual.data) {
      residual.get8(y, at);
      each([](float a, float b) { return a + b; });
    }
    if (activation != Activation::None && activationAfterResidual) each([this](float a, float) { return active(stored(a)); });
    out.set8(at, x);
  }
};

inline Output outputOf(const Finish& f, const PackedMatrix& b, int64_t rows) {
  const auto any = [](const Tensor& t) {
    require(!t || isFloat(t), "gemm: F32 or BF16 expected");
    return AnyPointer{t.data, t.dtype == DType::BF16};
  };
  const int64_t gateRows = f.gate ? f.gate.elements() / b.columns : 1;
  require(f.out && gateRows > 0 && rows % gateRows == 0, "gemm: the gate does not fit");
  return {any(f.out), any(f.residual), any(f.multiply), any(f.gate), b.bias, f.rowScale, b.columnScale, rows / gateRows,
          f.activation, f.activationAfterResidual};
}

void multiplyPlain(cudaStream_t stream, const Gather& a, DType inType, const PackedMatrix& b, const Output& output);  // gemm_plain.cu

}  // namespace longlive::cuda

// Rows of activations in registers: what norms and quantisation have in common. A warp holds a row, so that nobody waits for other warps, or
// a block does where a row is too long for that or odd; 8 elements (16 bytes of bf16) per thread and access where the width allows.
#pragma once

#include "device.cuh"
#include "kernels.h"

namespace longlive::cuda {

constexpr int kHeld = 48;        // elements that a thread of a block may hold
constexpr int kRowThreads = 256;
constexpr int kRowWarps = 4;     // rows of a block whose warps have one each

// Who shares a row of N vectors of V elements each: a warp, or a block. Member t holds vectors t, t + members, ...
template <class T, int V_, int N, bool Warp> struct Row {
  static constexpr int V = V_;
  using Element = T;
  float x[N][V];

  static __device__ __forceinline__ int members() { return Warp ? 32 : static_cast<int>(blockDim.x); }
  static __device__ __forceinline__ int member() { return Warp ? static_cast<int>(threadIdx.x) % 32 : static_cast<int>(threadIdx.x); }
  static __device__ __forceinline__ int64_t number() {
    return Warp ? static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / 32 : static_cast<int64_t>(blockIdx.x);
  }

  template <class F> __device__ __forceinline__ void each(int width, F f) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int column = (i * members() + member()) * V;
      if (column < width) f(x[i], column);
    }
  }
  __device__ __forceinline__ void read(const T* row, int width) {
    each(width, [&](float (&v)[V], int column) { load<V>(v, row + column); });
  }
  template <class F> __device__ __forceinline__ float sum(int width, float* partial, F f) {
    float s = 0;
    each(width, [&](float (&v)[V], int) {
#pragma unroll
      for (int j = 0; j < V; ++j) s += f(v[j]);
    });
    return Warp ? warpSum(s) : blockSum(s, partial);
  }
  // The largest magnitude.
  __device__ __forceinline__ float most(int width, float* partial) {
    float m = 0;
    each(width, [&](float (&v)[V], int) {
#pragma unroll
      for (int j = 0; j < V; ++j) m = fmaxf(m, fabsf(v[j]));
    });
    return Warp ? warpMax(m) : blockMax(m, partial);
  }
};

inline void requireRow(const Tensor& out, const Tensor& in, const char* what) {
  require(isFloat(in) && out.dtype == in.dtype && out.elements() == in.elements() && in.shape[-1] <= kHeld * kRowThreads, what);
}

// Calls f with a Row of the type that holds `width` elements, with the grid and the threads of a block for `rows` of them. `pairs`: elements
// come in pairs.
template <class F> void dispatchRow(DType type, int64_t rows, int64_t width, bool pairs, F f) {
  const auto byType = [&](auto element) {
    using T = decltype(element);
    const auto warps = [&](auto row) { f(row, dim3(static_cast<unsigned>(ceilDiv(rows, kRowWarps))), kRowWarps * 32u); };
    const auto block = [&](auto row) {
      const int64_t threads = ceilDiv(ceilDiv(width, decltype(row)::V), 32) * 32;
      f(row, dim3(static_cast<unsigned>(rows)), static_cast<unsigned>(std::min<int64_t>(kRowThreads, threads)));
    };
    if (width % 8 == 0 && width <= 2 * 256) warps(Row<T, 8, 2, true>{});
    else if (width % 8 == 0 && width <= 6 * 256) warps(Row<T, 8, 6, true>{});
    else if (width % 8 == 0) block(Row<T, 8, kHeld / 8, false>{});
    else if (width % 2 == 0 || pairs) block(Row<T, 2, kHeld / 2, false>{});
    else block(Row<T, 1, kHeld, false>{});
  };
  if (type == DType::BF16) byType(bf16{});
  else byType(float{});
}

}  // namespace longlive::cuda

// Rows of activations in registers: what norms and quantization have in common. A warp holds a row, so that nobody waits for other warps, or
// a block does where a row is too long for that or odd; 8 elements (16 bytes of bf16) per thread and access where the width allows.
#pragma once

#include "device.cuh"
#include "kernels.h"
#include "ptx.cuh"

namespace longlive::cuda {

constexpr int kHeld = 48;        // elements that a thread of a block may hold
constexpr int kRowThreads = 256;
constexpr int kRowWarps = 4;     // rows of a block whose warps have one each

// Where rows are stored: as they are, or in 8 bits with a scale each.
template <class T> struct FloatRows { T* data; };
template <bool Fp8> struct ByteRows {
  uint2* data;
  float* scale;
};

// Who shares a row of N vectors of V elements each: a warp, or a block. Member t holds vectors t, t + members, ..., as they are stored: in bf16 they
// take half the registers, so that twice as many rows are under way.
template <class T, int V_, int N, bool Warp> struct Row {
  static constexpr int V = V_;
  // Of a block at most, and how many blocks a multiprocessor should hold: 36 of its warps are the 4680 rows of a full-size pass in one wave.
  static constexpr int kThreads = Warp ? 32 * kRowWarps : kRowThreads, kBlocks = Warp && sizeof(T) == 2 ? 9 : 1;
  using Element = T;
  struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Vector { T of[V]; } x[N];

  static __device__ __forceinline__ int members() { return Warp ? 32 : static_cast<int>(blockDim.x); }
  static __device__ __forceinline__ int member() { return Warp ? static_cast<int>(threadIdx.x) % 32 : static_cast<int>(threadIdx.x); }
  static __device__ __forceinline__ int64_t number() {
    return Warp ? static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / 32 : static_cast<int64_t>(blockIdx.x);
  }

  template <class F> __device__ __forceinline__ void eachVector(int width, F f) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int column = (i * members() + member()) * V;
      if (column < width) f(x[i], column);
    }
  }
  // What f makes of its copy is not kept.
  template <class F> __device__ __forceinline__ void each(int width, F f) {
    eachVector(width, [&](Vector& vector, int column) {
      float v[V];
      load<V>(v, vector.of);
      f(v, column);
    });
  }
  // It is, rounded to T.
  template <class F> __device__ __forceinline__ void change(int width, F f) {
    eachVector(width, [&](Vector& vector, int column) {
      float v[V];
      load<V>(v, vector.of);
      f(v, column);
      store<V>(vector.of, v);
    });
  }
  __device__ __forceinline__ void read(const T* row, int width) {
    eachVector(width, [&](Vector& vector, int column) { vector = *reinterpret_cast<const Vector*>(row + column); });
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
  __device__ __forceinline__ void put(const FloatRows<T>& out, int64_t row, int width, float*) {
    eachVector(width, [&](Vector& vector, int column) { *reinterpret_cast<Vector*>(out.data + row * width + column) = vector; });
  }
  template <bool Fp8> __device__ __forceinline__ void put(const ByteRows<Fp8>& out, int64_t row, int width, float* partial) {
    static_assert(V == 8);
    constexpr float kMost = Fp8 ? kE4m3Max : 127.0f;
    const float highest = most(width, partial), inverse = highest > 0 ? kMost / highest : 0.0f;
    if (member() == 0) out.scale[row] = highest / kMost;
    each(width, [&](float (&v)[V], int column) {
      const auto pack = [&](int j) {
        const float a = v[j] * inverse, b = v[j + 1] * inverse, c = v[j + 2] * inverse, d = v[j + 3] * inverse;
        return Fp8 ? packFp8(a, b, c, d) : packInt8(a, b, c, d);
      };
      out.data[(row * width + column) / 8] = make_uint2(pack(0), pack(4));
    });
  }
};

inline void requireRow(const LinearRows& out, const Tensor& in, const char* what) {
  const bool fits = isFloat(in) && out.values.elements() == in.elements() && in.shape[-1] <= kHeld * kRowThreads;
  const bool bytes = out.scale && (out.values.dtype == DType::I8 || out.values.dtype == DType::F8_E4M3) && in.shape[-1] % 8 == 0;
  require(fits && (bytes || (!out.scale && out.values.dtype == in.dtype)), what);
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

// Calls f with where rows go that a Row of type R makes.
template <class R, class F> void byTarget(const LinearRows& out, F f) {
  if (!out.scale) {
    f(FloatRows<typename R::Element>{out.values.as<typename R::Element>()});
  } else if constexpr (R::V == 8) {
    if (out.values.dtype == DType::I8) f(ByteRows<false>{out.values.as<uint2>(), out.scale.as<float>()});
    else f(ByteRows<true>{out.values.as<uint2>(), out.scale.as<float>()});
  }
}

}  // namespace longlive::cuda

// What all kernels share: bf16, vector loads and stores, roundings, reductions, activations.
//
// Rounding (spec 2.8): bf16 arithmetic is F32 arithmetic whose results are rounded where the reference stores them.
// rounded<T>(x) marks those places; for T = float it is the identity, which makes the same kernel the F32 oracle.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops.h"

namespace longlive::cuda {

struct alignas(2) bf16 { uint16_t bits; };

__device__ __forceinline__ float toFloat(float x) { return x; }
__device__ __forceinline__ float toFloat(bf16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }

// To nearest even; NaN stays NaN.
__device__ __forceinline__ bf16 toBf16(float x) {
  bf16 r;
#ifdef LONGLIVE_CUDA_EMULATED
  const uint32_t u = __float_as_uint(x);
  r.bits = static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
#else
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
#endif
  return r;
}

// Two bf16 in a word, `low` at the lower address.
__device__ __forceinline__ uint32_t packBf16(float low, float high) {
#ifdef LONGLIVE_CUDA_EMULATED
  return toBf16(low).bits | static_cast<uint32_t>(toBf16(high).bits) << 16;
#else
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
#endif
}
__device__ __forceinline__ float lowFloat(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float highFloat(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

template <class T> __device__ __forceinline__ T fromFloat(float x);
template <> __device__ __forceinline__ float fromFloat<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 fromFloat<bf16>(float x) { return toBf16(x); }

template <class T> __device__ __forceinline__ float rounded(float x) { return toFloat(fromFloat<T>(x)); }

// V neighbours, V * sizeof(T) aligned.
template <int V> __device__ __forceinline__ void load(float (&x)[V], const float* p) {
  if constexpr (V == 8) {
    const float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
  } else if constexpr (V == 2) {
    const float2 a = *reinterpret_cast<const float2*>(p);
    x[0] = a.x, x[1] = a.y;
  } else {
    static_assert(V == 1);
    x[0] = *p;
  }
}
template <int V> __device__ __forceinline__ void load(float (&x)[V], const bf16* p) {
  if constexpr (V == 8) {
    const uint4 a = *reinterpret_cast<const uint4*>(p);
    const uint32_t w[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) x[2 * i] = lowFloat(w[i]), x[2 * i + 1] = highFloat(w[i]);
  } else if constexpr (V == 2) {
    const uint32_t w = *reinterpret_cast<const uint32_t*>(p);
    x[0] = lowFloat(w), x[1] = highFloat(w);
  } else {
    static_assert(V == 1);
    x[0] = toFloat(*p);
  }
}
template <int V> __device__ __forceinline__ void store(float* p, const float (&x)[V]) {
  if constexpr (V == 8) {
    reinterpret_cast<float4*>(p)[0] = make_float4(x[0], x[1], x[2], x[3]);
    reinterpret_cast<float4*>(p)[1] = make_float4(x[4], x[5], x[6], x[7]);
  } else if constexpr (V == 2) {
    *reinterpret_cast<float2*>(p) = make_float2(x[0], x[1]);
  } else {
    *p = x[0];
  }
}
template <int V> __device__ __forceinline__ void store(bf16* p, const float (&x)[V]) {
  if constexpr (V == 8) {
    *reinterpret_cast<uint4*>(p) = make_uint4(packBf16(x[0], x[1]), packBf16(x[2], x[3]), packBf16(x[4], x[5]), packBf16(x[6], x[7]));
  } else if constexpr (V == 2) {
    *reinterpret_cast<uint32_t*>(p) = packBf16(x[0], x[1]);
  } else {
    *p = toBf16(x[0]);
  }
}

// An array of F32 or BF16 whose type is known at run time; for operations that are far from any bound.
struct AnyPointer {
  void* data = nullptr;
  bool isBf16 = false;
  __device__ __forceinline__ float get(int64_t i) const {
    return isBf16 ? toFloat(static_cast<const bf16*>(data)[i]) : static_cast<const float*>(data)[i];
  }
  __device__ __forceinline__ void set(int64_t i, float x) const {
    if (isBf16) static_cast<bf16*>(data)[i] = toBf16(x);
    else static_cast<float*>(data)[i] = x;
  }
  __device__ __forceinline__ void get8(float (&x)[8], int64_t i) const {
    if (isBf16) load<8>(x, static_cast<const bf16*>(data) + i);
    else load<8>(x, static_cast<const float*>(data) + i);
  }
  __device__ __forceinline__ void set8(int64_t i, const float (&x)[8]) const {
    if (isBf16) store<8>(static_cast<bf16*>(data) + i, x);
    else store<8>(static_cast<float*>(data) + i, x);
  }
};

struct Sum {
  static constexpr float kNone = 0.0f;
  __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
};
struct Largest {
  static constexpr float kNone = -INFINITY;
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

template <class F> __device__ __forceinline__ float warpReduce(float x, F f) {
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) x = f(x, __shfl_xor_sync(0xffffffffu, x, mask));
  return x;
}
__device__ __forceinline__ float warpSum(float x) { return warpReduce(x, Sum{}); }
__device__ __forceinline__ float warpMax(float x) { return warpReduce(x, Largest{}); }

// Over a block of whole warps; `partial` holds one float per warp. Ends with everybody having read it.
template <class F> __device__ __forceinline__ float blockReduce(float x, float* partial, F f) {
  x = warpReduce(x, f);
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x % 32 == 0) partial[warp] = x;
  __syncthreads();
  float all = F::kNone;
  for (int i = 0; i < warps; ++i) all = f(all, partial[i]);
  __syncthreads();
  return all;
}
__device__ __forceinline__ float blockSum(float x, float* partial) { return blockReduce(x, partial, Sum{}); }
__device__ __forceinline__ float blockMax(float x, float* partial) { return blockReduce(x, partial, Largest{}); }

// T: what the result is rounded to. For bf16 the special function unit is exact enough, and the loops around it stay bound by memory.
template <class T> __device__ __forceinline__ float activated(float x, Activation a) {
  constexpr bool kFast = sizeof(T) == 2;
  switch (a) {
    case Activation::Relu: return fmaxf(x, 0.0f);
    case Activation::Silu: return kFast ? __fdividef(x, 1.0f + __expf(-x)) : x / (1.0f + expf(-x));
    case Activation::GeluTanh: {
      const float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
      return kFast ? __fdividef(x, 1.0f + __expf(-2.0f * u)) : 0.5f * x * (1.0f + tanhf(u));  // (1 + tanh u) / 2 = 1 / (1 + e^-2u)
    }
    case Activation::None: case Activation::TanhClamp: break;
  }
  return x;
}

// Four lanes share a row of a product's sums. v[j], the lane's own of a pair of columns in part j of four, becomes lane j's in the part of this
// lane's number (0..3): eight neighbours of the row. Done twice it is undone.
template <class T> __device__ __forceinline__ void exchange(T (&v)[4], int lane) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j & bit) continue;
      const bool high = lane & bit;
      const T got = __shfl_xor_sync(0xffffffffu, high ? v[j] : v[j | bit], bit);
      if (high) v[j] = got;
      else v[j | bit] = got;
    }
}

// The warpgroup of a thread. From its first lane, so that ptxas knows it to be the same for all of a warp: descriptors are then kept in uniform
// registers, where products take them from.
__device__ __forceinline__ int consumerGroup() { return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0); }

// First in every kernel, because `launch` lets one begin while the one before it ends (on Hopper and later): waits until all that earlier launches of
// the stream wrote is there, and lets the next one begin to wait in turn.
__device__ __forceinline__ void followEarlier() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n\tgriddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ unsigned char* dynamicShared() {
#ifdef LONGLIVE_CUDA_EMULATED
  return emulator::dynamicShared();
#else
  extern __shared__ __align__(1024) unsigned char longliveShared[];
  return longliveShared;
#endif
}

}  // namespace longlive::cuda

// Values of a tensor as vectors of floats, and back, whole or in part; what activations make of them.
//
//   GELU   x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3): the same as 0.5 x (1 + tanh u), but without the
//          cancellation of 1 + tanh u at the negative end
//   SiLU   x / (1 + e^(-x))
#pragma once

#include <cmath>

#include "simd.h"
#include "../ops.h"

namespace longlive::cpu::SIMD {

using bf16 = uint16_t;  // the upper half of an F32

// Upper half of the float, nearest even; the lower 16 bits of each lane of the result.
static inline U roundToBf16(F v) {
  const U bits = (U)v;
  const U rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const U nan = bits >> 16 | 0x40u;
  const I isNan = v != v;
  return (rounded & ~(U)isNan) | (nan & (U)isNan);
}

static inline void storeBf16(bf16* p, F v) {
#if defined(__AVX512BF16__)
  const __m256bh r = _mm512_cvtneps_pbh(v);  // the same, but denormals become 0
  __builtin_memcpy(p, &r, sizeof r);
#elif defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16((__m512i)roundToBf16(v)));
#elif defined(__aarch64__)
  vst1_u16(p, vmovn_u32((uint32x4_t)roundToBf16(v)));
#else
  const U r = roundToBf16(v);
  for (int i = 0; i < W; ++i) p[i] = static_cast<bf16>(r[i]);
#endif
}
static inline F loadBf16(const bf16* p) {
#if defined(__AVX512F__)
  return (F)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16);
#elif defined(__AVX2__)
  return (F)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16);
#elif defined(__aarch64__)
  return (F)vshll_n_u16(vld1_u16(p), 16);
#else
  U v;
  for (int i = 0; i < W; ++i) v[i] = static_cast<uint32_t>(p[i]) << 16;
  return (F)v;
#endif
}
static inline void storeBf16Part(bf16* p, F v, int64_t n) {
  const U r = roundToBf16(v);
  for (int64_t i = 0; i < n; ++i) p[i] = static_cast<bf16>(r[i]);
}
static inline F loadBf16Part(const bf16* p, int64_t n) {
  U v{};
  for (int64_t i = 0; i < n; ++i) v[i] = static_cast<uint32_t>(p[i]) << 16;
  return (F)v;
}

// The first n of W values, all where n is W or more.
static inline F read(const float* p, int64_t n) { return n >= W ? load(p) : loadPart(p, n); }
static inline F read(const bf16* p, int64_t n) { return n >= W ? loadBf16(p) : loadBf16Part(p, n); }
static inline void write(float* p, F v, int64_t n) { n >= W ? store(p, v) : storePart(p, v, n); }
static inline void write(bf16* p, F v, int64_t n) { n >= W ? storeBf16(p, v) : storeBf16Part(p, v, n); }

// The low byte of each lane.
static inline void writeBytes(uint8_t* p, U q, int64_t n) {
#if defined(__AVX512F__)
  if (n >= W) return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8((__m512i)q));
#elif defined(__AVX2__)
  if (n >= W) {
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128((__m256i)(q & 0xffu)), _mm256_extracti128_si256((__m256i)(q & 0xffu), 1));
    return _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
#elif defined(__aarch64__)
  if (n >= W) {
    const uint16x4_t words = vmovn_u32((uint32x4_t)q);
    const uint32_t bytes = vget_lane_u32((uint32x2_t)vmovn_u16(vcombine_u16(words, words)), 0);
    __builtin_memcpy(p, &bytes, 4);
    return;
  }
#endif
  for (int64_t i = 0; i < W && i < n; ++i) p[i] = static_cast<uint8_t>(q[i]);
}

template <Activation A>
static inline F activated(F x) {
  if constexpr (A == Activation::GeluTanh) {
    const F u = x * fma(x * x, set1(-2.0f * 0.7978845608f * 0.044715f), set1(-2.0f * 0.7978845608f));
    return x / (set1(1.0f) + exp(u));
  } else if constexpr (A == Activation::Silu) {
    return x / (set1(1.0f) + exp(-x));
  } else if constexpr (A == Activation::Relu) {
    return max(F{}, x);
  } else {
    return x;
  }
}

}  // namespace longlive::cpu::SIMD

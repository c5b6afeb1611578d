// One vector type for kernels that are written once and compiled for several instruction sets.
//
// The including source names a namespace in SIMD (avx2, avx512, ...) and is compiled with that set's flags; the width
// follows from the flags. Everything here has internal linkage or lives in that namespace: an inline function shared
// between differently compiled files would be merged by the linker into one of them, and crash on older machines.
#pragma once

#ifndef SIMD
#error "define SIMD as the namespace of this instruction set"
#endif

#include <cstdint>

#if defined(__AVX2__)
// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace longlive::cpu::SIMD {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

// GCC and Clang vectors: + - * / and comparisons work lane by lane, casts between them keep the bits.
typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));

static inline F load(const float* p) { F v; __builtin_memcpy(&v, p, sizeof v); return v; }
static inline I load(const int32_t* p) { I v; __builtin_memcpy(&v, p, sizeof v); return v; }
static inline U load(const uint32_t* p) { U v; __builtin_memcpy(&v, p, sizeof v); return v; }
static inline void store(float* p, F v) { __builtin_memcpy(p, &v, sizeof v); }
static inline void store(int32_t* p, I v) { __builtin_memcpy(p, &v, sizeof v); }
static inline void store(uint32_t* p, U v) { __builtin_memcpy(p, &v, sizeof v); }
static inline F toFloat(I v) { return __builtin_convertvector(v, F); }

#if defined(__AVX512F__)

static inline F set1(float x) { return _mm512_set1_ps(x); }
static inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
// The second operand is returned where either is NaN.
static inline F max(F a, F b) { return _mm512_max_ps(a, b); }
static inline F min(F a, F b) { return _mm512_min_ps(a, b); }
static inline F abs(F a) { return _mm512_abs_ps(a); }
static inline __mmask16 firstLanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
static inline F loadPart(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(firstLanes(n), p); }
static inline void storePart(float* p, F v, int64_t n) { _mm512_mask_storeu_ps(p, firstLanes(n), v); }
static inline F swapPairs(F v) { return _mm512_permute_ps(v, 0xb1); }
// x * 2^n for whole n; overflows to infinity and underflows gradually.
static inline F scaleByPowerOfTwo(F x, F n) { return _mm512_scalef_ps(x, n); }

#else

static inline F set1(float x) { return F{} + x; }

#if defined(__AVX2__)
static inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
static inline F max(F a, F b) { return _mm256_max_ps(a, b); }
static inline F min(F a, F b) { return _mm256_min_ps(a, b); }
static inline I firstLanes(int64_t n) { return I{0, 1, 2, 3, 4, 5, 6, 7} < static_cast<int32_t>(n); }
static inline F loadPart(const float* p, int64_t n) { return _mm256_maskload_ps(p, (__m256i)firstLanes(n)); }
static inline void storePart(float* p, F v, int64_t n) { _mm256_maskstore_ps(p, (__m256i)firstLanes(n), v); }
static inline F swapPairs(F v) { return _mm256_permute_ps(v, 0xb1); }
#else
#if defined(__aarch64__)
static inline F fma(F a, F b, F c) { return (F)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
static inline F fma(F a, F b, F c) { return a * b + c; }
#endif
static inline F max(F a, F b) { return a > b ? a : b; }
static inline F min(F a, F b) { return a < b ? a : b; }
static inline F loadPart(const float* p, int64_t n) {
  F v{};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
static inline void storePart(float* p, F v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}
static inline F swapPairs(F v) { return F{v[1], v[0], v[3], v[2]}; }
#endif

static inline F abs(F a) { return (F)((I)a & 0x7fffffff); }
// In two steps, because 2^n alone may not be a float where the product is one.
static inline F scaleByPowerOfTwo(F x, F n) {
  const I whole = __builtin_convertvector(n, I), half = whole >> 1;
  return x * (F)((half + 127) << 23) * (F)((whole - half + 127) << 23);
}

#endif

// Sums and maxima over lanes, always in the same order.
static inline float sum(F v) {
  float s[W];
  store(s, v);
  for (int step = W / 2; step; step /= 2)
    for (int i = 0; i < step; ++i) s[i] += s[i + step];
  return s[0];
}
static inline float maximum(F v) {
  float m[W];
  store(m, v);
  for (int step = W / 2; step; step /= 2)
    for (int i = 0; i < step; ++i) m[i] = m[i + step] > m[i] ? m[i + step] : m[i];
  return m[0];
}

// e^x: x = n ln 2 + r with |r| <= ln 2 / 2, then a polynomial of degree 6 in r. Relative error below 1.5e-7 for normal
// results; 0 and infinity at the ends; NaN stays NaN.
static inline F exp(F x) {
  x = min(set1(89.0f), max(set1(-104.0f), x));
  const F magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
  const F n = fma(x, set1(1.44269504f), magic) - magic;
  F r = fma(n, set1(-0.693145752f), x);
  r = fma(n, set1(-1.42860677e-6f), r);
  F p = set1(1.38888889e-3f);
  p = fma(p, r, set1(8.33333333e-3f));
  p = fma(p, r, set1(4.16666667e-2f));
  p = fma(p, r, set1(1.66666667e-1f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return scaleByPowerOfTwo(p, n);
}

}  // namespace longlive::cpu::SIMD

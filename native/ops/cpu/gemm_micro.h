// The register-blocked micro-kernel, written once: R rows by V vectors of accumulators stay in registers over the whole
// block of words; each step loads V vectors of B and broadcasts one word of each row of A. A Dot says what a word means.
#pragma once

#include <type_traits>
#include <utility>

#include "gemm_kernels.h"
#include "simd.h"

namespace longlive::cpu::SIMD {

// A word is a float.
struct DotF32 {
  using Acc = F;
  using Operand = F;
  static inline Operand loadVector(const uint32_t* b) { return load(reinterpret_cast<const float*>(b)); }
  static inline Operand broadcast(const uint32_t* a) { return set1(*reinterpret_cast<const float*>(a)); }
  static inline Acc dot(Acc acc, Operand a, Operand b) { return fma(a, b, acc); }
};

// A word is two bf16, multiplied as floats: products of bf16 are exact in F32.
struct DotBf16 {
  using Acc = F;
  struct Operand { F low, high; };
  static inline Operand split(U v) { return {(F)(v << 16), (F)(v & 0xffff0000u)}; }
  static inline Operand loadVector(const uint32_t* b) { return split(load(b)); }
  static inline Operand broadcast(const uint32_t* a) { return split(U{} + *a); }
  static inline Acc dot(Acc acc, Operand a, Operand b) { return fma(a.high, b.high, fma(a.low, b.low, acc)); }
};

// A word is four bytes, unsigned in A and signed in B. VPMADDUBSW would saturate, so the even and the odd bytes are
// widened to 16 bits and multiplied by VPMADDWD, which is exact.
struct DotInt8 {
  using Acc = I;
#if defined(__AVX2__)
  struct Operand { U even, odd; };
#if defined(__AVX512F__)
  static inline U signedEven(U v) { return (U)_mm512_srai_epi16(_mm512_slli_epi16((__m512i)v, 8), 8); }
  static inline U signedOdd(U v) { return (U)_mm512_srai_epi16((__m512i)v, 8); }
  static inline I multiplyAdd(U a, U b) { return (I)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
#else
  static inline U signedEven(U v) { return (U)_mm256_srai_epi16(_mm256_slli_epi16((__m256i)v, 8), 8); }
  static inline U signedOdd(U v) { return (U)_mm256_srai_epi16((__m256i)v, 8); }
  static inline I multiplyAdd(U a, U b) { return (I)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
#endif
  static inline Operand loadVector(const uint32_t* b) { const U v = load(b); return {signedEven(v), signedOdd(v)}; }
  static inline Operand broadcast(const uint32_t* a) {
    const uint32_t even = *a & 0x00ff00ffu, odd = *a >> 8 & 0x00ff00ffu;
    return {U{} + even, U{} + odd};
  }
  static inline Acc dot(Acc acc, Operand a, Operand b) { return acc + multiplyAdd(a.even, b.even) + multiplyAdd(a.odd, b.odd); }
#else
  struct Operand { I byte[4]; };
  static inline Operand loadVector(const uint32_t* b) {
    const U v = load(b);
    return {{(I)(v << 24) >> 24, (I)(v << 16) >> 24, (I)(v << 8) >> 24, (I)v >> 24}};
  }
  static inline Operand broadcast(const uint32_t* a) {
    Operand o;
    for (int i = 0; i < 4; ++i) o.byte[i] = I{} + static_cast<int32_t>(*a >> 8 * i & 0xff);
    return o;
  }
  static inline Acc dot(Acc acc, Operand a, Operand b) {
    for (int i = 0; i < 4; ++i) acc += a.byte[i] * b.byte[i];
    return acc;
  }
#endif
};

template <class Dot, int R, int V>
static void microKernel(int words, const uint32_t* a, const uint32_t* b, void* out, int64_t ldc, bool accumulate) {
  using Acc = typename Dot::Acc;
  using Element = std::remove_reference_t<decltype(Acc{}[0])>;
  auto* c = static_cast<Element*>(out);
  Acc acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = accumulate ? load(c + r * ldc + v * W) : Acc{};

  for (int w = 0; w < words; ++w, ++a, b += kPanel) {
    typename Dot::Operand vector[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) vector[v] = Dot::loadVector(b + v * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const typename Dot::Operand scalar = Dot::broadcast(a + r * kStride);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = Dot::dot(acc[r][v], scalar, vector[v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(c + r * ldc + v * W, acc[r][v]);
}

using MicroKernel = void (*)(int, const uint32_t*, const uint32_t*, void*, int64_t, bool);

template <class Dot, int V, int... R>
static constexpr MicroKernel pickMicroKernel(int rows, std::integer_sequence<int, R...>) {
  constexpr MicroKernel table[] = {microKernel<Dot, R + 1, V>...};
  return table[rows - 1];
}

// A strip of `rows` rows against the vectors of a panel that hold its first `columns` columns, V at a time.
template <class Dot, int R, int V>
static void runStrip(int rows, int columns, int words, const uint32_t* a, const uint32_t* b, void* c, int64_t ldc,
                     bool accumulate) {
  const auto wide = pickMicroKernel<Dot, V>(rows, std::make_integer_sequence<int, R>());
  const auto narrow = pickMicroKernel<Dot, 1>(rows, std::make_integer_sequence<int, R>());
  for (int column = 0; column < columns;) {
    const bool one = columns - column <= W;
    (one ? narrow : wide)(words, a, b + column, static_cast<uint32_t*>(c) + column, ldc, accumulate);
    column += one ? W : V * W;
  }
}

static void nothing() {}

template <class Dot, int R, int V>
constexpr GemmKernel makeGemmKernel(const char* name) { return {name, R, runStrip<Dot, R, V>, nothing, nothing}; }

}  // namespace longlive::cpu::SIMD

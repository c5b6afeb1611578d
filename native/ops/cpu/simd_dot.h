// What a 32-bit word of a product means, and how two of them are multiplied: the inner step of matrices (gemm_micro.h) and convolutions
// (conv_simd.h). A Dot loads a vector of words of B, broadcasts a word of A, which need not be aligned, and adds their products to an accumulator.
#pragma once

#include "simd.h"

namespace longlive::cpu::SIMD {

static inline uint32_t wordAt(const void* p) { uint32_t w; __builtin_memcpy(&w, p, sizeof w); return w; }
#if defined(__AVX2__) && !defined(__AVX512F__)
// By name: GCC 12 loads a word that is broadcast and masked into a general register and moves it from there, which takes twice as long.
static inline U broadcastWord(const void* p) { return (U)_mm256_broadcast_ss(static_cast<const float*>(p)); }
#elif defined(__aarch64__)
static inline U broadcastWord(const void* p) { return (U)vld1q_dup_u32(static_cast<const uint32_t*>(p)); }
#else
static inline U broadcastWord(const void* p) { return U{} + wordAt(p); }
#endif

// A word is a float.
struct DotF32 {
  using Acc = F;
  using Operand = F;
  static inline Operand loadVector(const uint32_t* b) { return load(reinterpret_cast<const float*>(b)); }
  static inline Operand broadcast(const void* a) { return (F)broadcastWord(a); }
  static inline Acc dot(Acc acc, Operand a, Operand b) { return fma(a, b, acc); }
};

// A word is two bf16, multiplied as floats: products of bf16 are exact in F32.
struct DotBf16 {
  using Acc = F;
  struct Operand { F low, high; };
  static inline Operand split(U v) { return {(F)(v << 16), (F)(v & 0xffff0000u)}; }
  static inline Operand loadVector(const uint32_t* b) { return split(load(b)); }
  static inline Operand broadcast(const void* a) { return split(broadcastWord(a)); }
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
  static inline U unsignedOdd(U v) { return (U)_mm512_srli_epi16((__m512i)v, 8); }
  static inline I multiplyAdd(U a, U b) { return (I)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
#else
  static inline U signedEven(U v) { return (U)_mm256_srai_epi16(_mm256_slli_epi16((__m256i)v, 8), 8); }
  static inline U signedOdd(U v) { return (U)_mm256_srai_epi16((__m256i)v, 8); }
  static inline U unsignedOdd(U v) { return (U)_mm256_srli_epi16((__m256i)v, 8); }
  static inline I multiplyAdd(U a, U b) { return (I)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
#endif
  static inline Operand loadVector(const uint32_t* b) { const U v = load(b); return {signedEven(v), signedOdd(v)}; }
  static inline Operand broadcast(const void* a) {
    const U quad = broadcastWord(a);
    return {quad & 0x00ff00ffu, unsignedOdd(quad)};
  }
  static inline Acc dot(Acc acc, Operand a, Operand b) { return acc + multiplyAdd(a.even, b.even) + multiplyAdd(a.odd, b.odd); }
#else
  struct Operand { I byte[4]; };
  static inline Operand loadVector(const uint32_t* b) {
    const U v = load(b);
    return {{(I)(v << 24) >> 24, (I)(v << 16) >> 24, (I)(v << 8) >> 24, (I)v >> 24}};
  }
  static inline Operand broadcast(const void* a) {
    Operand o;
    const uint32_t quad = wordAt(a);
    for (int i = 0; i < 4; ++i) o.byte[i] = I{} + static_cast<int32_t>(quad >> 8 * i & 0xff);
    return o;
  }
  static inline Acc dot(Acc acc, Operand a, Operand b) {
    for (int i = 0; i < 4; ++i) acc += a.byte[i] * b.byte[i];
    return acc;
  }
#endif
};

#if defined(__ARM_FEATURE_DOTPROD)
// A word is four bytes, of which SDOT adds four products to a lane. It wants both signed: bytes of A are taken less 128, and what is missing
// then, 128 times the sum of those of B, is added up beside the products.
struct DotSigned {
  using Acc = I;
  using Operand = int8x16_t;
  static constexpr int kExcess = 128;
  static constexpr float kLargestWeight = 127;
  static inline Operand loadVector(const uint32_t* b) { return (int8x16_t)load(b); }
  static inline Operand broadcast(const void* a) { return (int8x16_t)(broadcastWord(a) ^ 0x80808080u); }
  static inline Acc dot(Acc acc, Operand a, Operand b) { return (I)vdotq_s32((int32x4_t)acc, a, b); }
  static inline Acc addUp(Acc acc, Operand b) { return dot(acc, vdupq_n_s8(1), b); }
};
#endif

// Beside the products of a Dot with an excess: what they lack, by vector of B. Nothing for others.
template <class Dot, int V>
struct Missing {
  static inline void add(const typename Dot::Operand (&)[V]) {}
  static inline typename Dot::Acc with(typename Dot::Acc sum, int) { return sum; }
};
template <class Dot, int V>
  requires(Dot::kExcess > 0)
struct Missing<Dot, V> {
  typename Dot::Acc sum[V] = {};
  inline void add(const typename Dot::Operand (&b)[V]) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[v] = Dot::addUp(sum[v], b[v]);
  }
  inline typename Dot::Acc with(typename Dot::Acc products, int v) const { return products + sum[v] * Dot::kExcess; }
};

}  // namespace longlive::cpu::SIMD

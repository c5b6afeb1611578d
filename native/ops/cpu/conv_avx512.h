// The AVX-512 kernels, written once for F32 and BF16 inputs: a tile of 24 pixels x 16 channels or 12 pixels x 32 channels
// lives in 24 registers; each step multiplies broadcast inputs with one or two vectors of weights.
// Internal linkage: conv_avx512.cpp and conv_avx512bf16.cpp include this with different flags.
#pragma once

// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include "conv_scalar.h"

namespace longlive::cpu {
namespace {

// ---- loads and stores of 16 lanes -------------------------------------------------------------------------------------

inline __m512 widen(__m256i bf16) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16)); }

inline __m256i narrow(__m512 v) {
#if defined(__AVX512BF16__)
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
#else
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
#endif
}

inline __mmask16 lanesMask(int64_t n) { return n >= 16 ? 0xffff : static_cast<__mmask16>((1u << n) - 1u); }

// Whole = true ignores the mask: masked stores are slow on some processors.
template <bool Whole>
inline __m512 load(const float* p, __mmask16 m) { return Whole ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(m, p); }

template <bool Whole>
inline __m512 load(const Bf16* p, __mmask16 m) {
  return widen(Whole ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)) : _mm256_maskz_loadu_epi16(m, p));
}

template <bool Whole>
inline void store(float* p, __mmask16 m, __m512 v) {
  if constexpr (Whole) _mm512_storeu_ps(p, v);
  else _mm512_mask_storeu_ps(p, m, v);
}

template <bool Whole>
inline void store(Bf16* p, __mmask16 m, __m512 v) {
  if constexpr (Whole) _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v));
  else _mm256_mask_storeu_epi16(p, m, narrow(v));
}

// Calls fn with a pointer of the tensor's element type.
template <class Fn>
inline void typed(void* p, DType t, Fn&& fn) {
  if (t == DType::F32) fn(static_cast<float*>(p));
  else fn(static_cast<Bf16*>(p));
}

template <class Fn>
inline void typed(const void* p, DType t, Fn&& fn) {
  if (t == DType::F32) fn(static_cast<const float*>(p));
  else fn(static_cast<const Bf16*>(p));
}

// ---- x / (1 + exp(-x)) ------------------------------------------------------------------------------------------------

inline __m512 exp512(__m512 x) {  // 2 ulp on [-87, 88], clamped outside
  x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(88.0f)), _mm512_set1_ps(-87.0f));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
  return _mm512_scalef_ps(p, n);
}

inline __m512 silu512(__m512 x) {
  const __m512 d = _mm512_add_ps(_mm512_set1_ps(1.0f), exp512(_mm512_sub_ps(_mm512_setzero_ps(), x)));
  __m512 inverse = _mm512_rcp14_ps(d);  // one Newton step gives full precision
  inverse = _mm512_mul_ps(inverse, _mm512_fnmadd_ps(d, inverse, _mm512_set1_ps(2.0f)));
  return _mm512_mul_ps(x, inverse);
}

template <Activation A>  // everything but GeluTanh
inline __m512 activate512(__m512 v) {
  if constexpr (A == Activation::Relu) return _mm512_max_ps(v, _mm512_setzero_ps());
  if constexpr (A == Activation::Silu) return silu512(v);
  return v;
}

// Calls fn.template operator()<A>() for one of the three.
template <class Fn>
inline void withActivation(Activation a, Fn&& fn) {
  if (a == Activation::Relu) fn.template operator()<Activation::Relu>();
  else if (a == Activation::Silu) fn.template operator()<Activation::Silu>();
  else fn.template operator()<Activation::None>();
}

// ---- multiply-accumulate ----------------------------------------------------------------------------------------------

// kStep inputs as one 32-bit lane: a float, a pair of bf16 or four bytes.
template <class Element> constexpr int kStep = 4 / sizeof(Element);

// How a lane adds up, and what number the sum stands for.
template <class Element>
struct Lanes {
  using Sum = __m512;
  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum multiplyAdd(Sum acc, const Element* x, __m512i w) {
    if constexpr (sizeof(Element) == 4) {
      return _mm512_fmadd_ps(_mm512_set1_ps(*x), _mm512_castsi512_ps(w), acc);
    } else {
#if defined(__AVX512BF16__)
      int32_t pair;
      std::memcpy(&pair, x, 4);
      return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)));
#else
      return acc;
#endif
    }
  }
  static __m512 end(const ConvTile&, int, Sum sum) { return sum; }
};

#if defined(__AVX512VNNI__)
template <>
struct Lanes<uint8_t> {
  using Sum = __m512i;
  static Sum zero() { return _mm512_setzero_si512(); }
  static Sum multiplyAdd(Sum acc, const uint8_t* x, __m512i w) {
    int32_t quad;
    std::memcpy(&quad, x, 4);
    return _mm512_dpbusd_epi32(acc, _mm512_set1_epi32(quad), w);
  }
  // Sums do not begin with `offset`: with a load in front of its loop GCC 12 keeps the tile on the stack, at half the speed.
  static __m512 end(const ConvTile& t, int block, Sum sum) {
    const __m512i whole = _mm512_add_epi32(sum, _mm512_load_si512(t.offset + block * kConvLanes));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(whole), _mm512_load_ps(t.scale + block * kConvLanes));
  }
};
#endif

// Stride 0 reads the stride from the tile; the others let the compiler fold every pixel's offset into its load.
template <class Element, int Pixels, int Blocks, int Stride>
void accumulateTile(const ConvTile& t, float* acc) {
  using Lane = Lanes<Element>;
  const int64_t stride = Stride ? Stride : t.pixelStride;
  typename Lane::Sum sum[Pixels][Blocks];
#pragma GCC unroll 24
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 2
    for (int b = 0; b < Blocks; ++b) sum[p][b] = Lane::zero();
  for (int r = 0; r < t.rowCount; ++r) {
    const Element* in = static_cast<const Element*>(t.rows[r]);
    const __m512i* w = static_cast<const __m512i*>(t.weights[r]);
    for (int k = 0; k < t.run; k += kStep<Element>, w += Blocks) {
      __m512i weight[Blocks];
#pragma GCC unroll 2
      for (int b = 0; b < Blocks; ++b) weight[b] = _mm512_load_si512(w + b);
#pragma GCC unroll 24
      for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 2
        for (int b = 0; b < Blocks; ++b) sum[p][b] = Lane::multiplyAdd(sum[p][b], in + p * stride + k, weight[b]);
    }
  }
#pragma GCC unroll 24
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 2
    for (int b = 0; b < Blocks; ++b) _mm512_store_ps(acc + (p * Blocks + b) * kConvLanes, Lane::end(t, b, sum[p][b]));
}

template <class Element, int Pixels, int Blocks>
void accumulate512(const ConvTile& t, float* acc) {
  switch (t.pixelStride) {
    case 8: return accumulateTile<Element, Pixels, Blocks, 8>(t, acc);
    case 16: return accumulateTile<Element, Pixels, Blocks, 16>(t, acc);
    case 32: return accumulateTile<Element, Pixels, Blocks, 32>(t, acc);
    case 40: return accumulateTile<Element, Pixels, Blocks, 40>(t, acc);
    case 64: return accumulateTile<Element, Pixels, Blocks, 64>(t, acc);
    case 80: return accumulateTile<Element, Pixels, Blocks, 80>(t, acc);
    case 96: return accumulateTile<Element, Pixels, Blocks, 96>(t, acc);
    case 128: return accumulateTile<Element, Pixels, Blocks, 128>(t, acc);
    case 192: return accumulateTile<Element, Pixels, Blocks, 192>(t, acc);
    case 256: return accumulateTile<Element, Pixels, Blocks, 256>(t, acc);
    case 384: return accumulateTile<Element, Pixels, Blocks, 384>(t, acc);
    default: return accumulateTile<Element, Pixels, Blocks, 0>(t, acc);
  }
}

// ---- epilogue ---------------------------------------------------------------------------------------------------------

template <bool Whole, Activation A, class Out, class Residual>
void finishPixels(const ConvFinish& f, const float* acc, Out* out, const Residual* residual) {
  for (int first = 0; first < f.channels; first += kConvLanes) {
    const __mmask16 m = lanesMask(f.channels - first);
    const __m512 bias = _mm512_loadu_ps(f.bias + first);
    for (int p = 0; p < f.pixels; ++p) {
      __m512 v = _mm512_add_ps(_mm512_load_ps(acc + p * f.lanes + first), bias);
      if (!f.activationAfterResidual) v = activate512<A>(v);
      if (residual) v = _mm512_add_ps(v, load<Whole>(residual + p * f.residualStride + first, m));
      if (f.activationAfterResidual) v = activate512<A>(v);
      store<Whole>(out + p * f.outStride + first, m, v);
    }
  }
}

[[maybe_unused]] void finish512(const ConvFinish& f, const float* acc) {
  if (f.activation == Activation::GeluTanh) return finishScalar(f, acc);
  typed(f.out, f.outType, [&](auto* out) {
    typed(f.residual, f.residualType, [&](const auto* residual) {
      withActivation(f.activation, [&]<Activation A>() {
        if (f.channels % kConvLanes == 0) finishPixels<true, A>(f, acc, out, residual);
        else finishPixels<false, A>(f, acc, out, residual);
      });
    });
  });
}

// ---- norm -------------------------------------------------------------------------------------------------------------

// Lane i of the result is the sum of the 16 lanes of v[i].
inline __m512 sumEach(const __m512 v[16]) {
  __m512 quarter[4];  // per 128 bits: sums of four vectors
  for (int i = 0; i < 4; ++i) {
    const __m512 *a = v + 4 * i;
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
    const __m512d x = _mm512_castps_pd(ab), y = _mm512_castps_pd(cd);
    quarter[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
  }
  const auto fold = [](__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  return fold(fold(quarter[0], quarter[1]), fold(quarter[2], quarter[3]));
}

// What a vector of results is stored through.
struct AsNumbers {
  template <bool Whole, class Out> void put(Out* p, __mmask16 m, __m512 v) const { store<Whole>(p, m, v); }
};
struct AsBytes {
  __m512 perStep, zero;
  explicit AsBytes(ByteCode code) : perStep(_mm512_set1_ps(1.0f / code.step)), zero(_mm512_set1_ps(code.zero)) {}
  template <bool Whole> void put(uint8_t* p, __mmask16 m, __m512 v) const {
    const __m512i q = _mm512_cvtps_epi32(_mm512_max_ps(_mm512_fmadd_ps(v, perStep, zero), _mm512_setzero_ps()));  // rounds to nearest even
    _mm_mask_storeu_epi8(p, m, _mm512_cvtusepi32_epi8(q));
  }
};

// Lane i of the result is of pixel i; behind the `count` pixels, of the last one.
template <bool Whole, class In>
__m512 sumSquares(const In* in, int64_t channels, int count) {
  __m512 squares[16];
#pragma GCC unroll 16
  for (int p = 0; p < 16; ++p) squares[p] = _mm512_setzero_ps();
  for (int64_t c = 0; c < channels; c += 16) {
    const __mmask16 m = lanesMask(channels - c);
#pragma GCC unroll 16
    for (int p = 0; p < 16; ++p) {
      const __m512 x = load<Whole>(in + std::min(p, count - 1) * channels + c, m);
      squares[p] = _mm512_fmadd_ps(x, x, squares[p]);
    }
  }
  return sumEach(squares);
}

// Up to sixteen pixels, which share one square root and one division.
template <bool Whole, Activation A, class Out, class In, class As>
void normGroup(Out* out, const In* in, const float* gamma, int64_t channels, int count, __m512 root, As as) {
  alignas(64) float scales[16];
  const __m512 length = _mm512_max_ps(_mm512_sqrt_ps(sumSquares<Whole>(in, channels, count)), _mm512_set1_ps(1e-12f));
  _mm512_store_ps(scales, _mm512_div_ps(root, length));
  for (int64_t c = 0; c < channels; c += 16) {
    const __mmask16 m = lanesMask(channels - c);
    const __m512 g = load<Whole>(gamma + c, m);
    for (int p = 0; p < count; ++p) {
      const __m512 y = _mm512_mul_ps(_mm512_mul_ps(load<Whole>(in + p * channels + c, m), _mm512_set1_ps(scales[p])), g);
      as.template put<Whole>(out + p * channels + c, m, activate512<A>(y));
    }
  }
}

template <class Out, class As>
void normPixels(const NormRows& n, Out* out, As as) {
  const __m512 root = _mm512_set1_ps(std::sqrt(static_cast<float>(n.channels)));
  typed(n.in, n.inType, [&](const auto* in) {
    withActivation(n.activation, [&]<Activation A>() {
      for (int64_t first = 0; first < n.pixels; first += 16) {
        const int count = static_cast<int>(std::min<int64_t>(16, n.pixels - first));
        const int64_t i = first * n.channels;
        if (n.channels % 16 == 0) normGroup<true, A>(out + i, in + i, n.gamma, n.channels, count, root, as);
        else normGroup<false, A>(out + i, in + i, n.gamma, n.channels, count, root, as);
      }
    });
  });
}

[[maybe_unused]] void norm512(const NormRows& n) {
  if (n.activation == Activation::GeluTanh) return normScalar(n);
  if (n.outType == DType::U8) return normPixels(n, static_cast<uint8_t*>(n.out), AsBytes(n.code));
  typed(n.out, n.outType, [&](auto* out) { normPixels(n, out, AsNumbers{}); });
}

}  // namespace
}  // namespace longlive::cpu

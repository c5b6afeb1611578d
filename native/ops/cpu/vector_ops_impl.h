// The source of every VectorOps table; see vector_ops.h for the contracts and simd.h for how it is compiled.
#pragma once

#include <cmath>

#include "simd.h"
#include "simd_values.h"
#include "vector_ops.h"

namespace longlive::cpu::SIMD {

// Calls body(i, n) for the pieces of [0, count): n = W, and once less for the tail.
template <class Whole, class Part>
static inline void forEachVector(int64_t count, Whole whole, Part part) {
  int64_t i = 0;
  for (; i + W <= count; i += W) whole(i);
  if (i < count) part(i, count - i);
}

// -- conversions ----------------------------------------------------------------------------------------------------------

static void toBf16(bf16* out, const float* in, int64_t n) {
  forEachVector(n, [&](int64_t i) { storeBf16(out + i, load(in + i)); },
                [&](int64_t i, int64_t left) { storeBf16Part(out + i, loadPart(in + i, left), left); });
}
static void throughBf16(float* out, const float* in, int64_t n) {
  const auto round = [](F v) { return (F)(roundToBf16(v) << 16); };
  forEachVector(n, [&](int64_t i) { store(out + i, round(load(in + i))); },
                [&](int64_t i, int64_t left) { storePart(out + i, round(loadPart(in + i, left)), left); });
}
static void fromBf16(float* out, const bf16* in, int64_t n) {
  forEachVector(n, [&](int64_t i) { store(out + i, loadBf16(in + i)); },
                [&](int64_t i, int64_t left) { storePart(out + i, loadBf16Part(in + i, left), left); });
}

static float absMaximum(const float* in, int64_t n) {
  F m{};
  forEachVector(n, [&](int64_t i) { m = max(m, abs(load(in + i))); },
                [&](int64_t i, int64_t left) { m = max(m, abs(loadPart(in + i, left))); });
  return maximum(m);
}

// Sets lanes of `found` where the exponent is all ones.
static inline U notFinite(U bits, uint32_t exponent) { return (U)((bits & exponent) == U{} + exponent); }

static bool allFinite(const float* in, int64_t n) {
  U found{};
  forEachVector(n, [&](int64_t i) { found |= notFinite((U)load(in + i), 0x7f800000u); },
                [&](int64_t i, int64_t left) { found |= notFinite((U)loadPart(in + i, left), 0x7f800000u); });
  uint32_t any = 0;
  for (int i = 0; i < W; ++i) any |= found[i];
  return any == 0;
}

// Two values to a lane.
static bool allFiniteBf16(const bf16* in, int64_t n) {
  const auto check = [](U bits) { return notFinite(bits, 0x7f80u) | notFinite(bits, 0x7f800000u); };
  U found{};
  int64_t i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    U v;
    __builtin_memcpy(&v, in + i, sizeof v);
    found |= check(v);
  }
  U rest{};
  __builtin_memcpy(&rest, in + i, static_cast<size_t>(n - i) * sizeof(bf16));
  found |= check(rest);
  uint32_t any = 0;
  for (int lane = 0; lane < W; ++lane) any |= found[lane];
  return any == 0;
}

static void widenPanel(uint32_t* out, const uint32_t* in, int64_t words) {
  // A signed byte has 7 bits of magnitude, so its float's upper half is exact.
  const auto floatBits = [](I v) { return (U)toFloat(v >> 24); };
  for (int64_t w = 0; w < words; ++w, in += 32, out += 64) {
    for (int lane = 0; lane < 32; lane += W) {
      const U bytes = load(in + lane);
      store(out + lane, floatBits((I)(bytes << 24)) >> 16 | floatBits((I)(bytes << 16)));
      store(out + 32 + lane, floatBits((I)(bytes << 8)) >> 16 | floatBits((I)bytes));
    }
  }
}

static void floatPairs(uint32_t* out, const uint32_t* in, int64_t words) {
  for (int64_t w = 0; w < words; ++w, in += 32, out += 64) {
    for (int lane = 0; lane < 32; lane += W) {
      const U pair = load(in + lane);
      store(out + lane, pair << 16);
      store(out + 32 + lane, pair & 0xffff0000u);
    }
  }
}

static void floatBytes(uint32_t* out, const uint32_t* in, int64_t words) {
  for (int64_t w = 0; w < words; ++w, in += 32, out += 128) {
    for (int lane = 0; lane < 32; lane += W) {
      const U bytes = load(in + lane);
      for (int i = 0; i < 4; ++i) store(out + 32 * i + lane, (U)toFloat((I)(bytes << (24 - 8 * i)) >> 24));
    }
  }
}

static void quantize(uint8_t* out, const float* in, int64_t n, float inverse) {
  const F magic = set1(12582912.0f);  // rounds to nearest even; the low byte of the sum is the integer
  const auto byte = [&](F v) { return (U)(fma(v, set1(inverse), magic)) + 128u; };
  forEachVector(n, [&](int64_t i) { writeBytes(out + i, byte(load(in + i)), W); },
                [&](int64_t i, int64_t left) { writeBytes(out + i, byte(loadPart(in + i, left)), left); });
}

// -- linear epilogue ------------------------------------------------------------------------------------------------------

template <Activation A>
static void finishTile(const LinearFinish& f) {
  for (int64_t r = 0; r < f.rows; ++r) {
    const float* gate = f.gate ? f.gate + (f.firstRow + r) / f.rowsPerGate * f.width : nullptr;
    const float* multiply = f.multiply ? f.multiply + r * f.width : nullptr;
    const float* residual = f.residual ? f.residual + r * f.width : nullptr;
    const auto value = [&](int64_t j, auto read) {
      F v;
      if (f.columnSum) {
        const I exact = load(static_cast<const int32_t*>(f.acc) + r * 32 + j) - (load(f.columnSum + j) << 7);
        v = fma(toFloat(exact), set1(f.rowScale[r]) * load(f.columnScale + j), load(f.bias + j));
      } else {
        const F sum = load(static_cast<const float*>(f.acc) + r * 32 + j);
        v = f.columnScale ? fma(sum, load(f.columnScale + j), load(f.bias + j)) : sum + load(f.bias + j);
      }
      v = activated<A>(v);
      if (multiply) v = v * read(multiply + j);
      if (residual) v = gate ? fma(v, read(gate + j), read(residual + j)) : v + read(residual + j);
      else if (gate) v = v * read(gate + j);
      return v;
    };
    const auto whole = [](const float* p) { return load(p); };
    if (f.outBf16) {
      bf16* out = static_cast<bf16*>(f.out) + r * f.width;
      forEachVector(f.columns, [&](int64_t j) { storeBf16(out + j, value(j, whole)); },
                    [&](int64_t j, int64_t n) {
                      storeBf16Part(out + j, value(j, [n](const float* p) { return loadPart(p, n); }), n);
                    });
    } else {
      float* out = static_cast<float*>(f.out) + r * f.width;
      forEachVector(f.columns, [&](int64_t j) { store(out + j, value(j, whole)); },
                    [&](int64_t j, int64_t n) {
                      storePart(out + j, value(j, [n](const float* p) { return loadPart(p, n); }), n);
                    });
    }
  }
}

static void finishLinear(const LinearFinish& f) {
  switch (f.activation) {
    case Activation::None: return finishTile<Activation::None>(f);
    case Activation::GeluTanh: return finishTile<Activation::GeluTanh>(f);
    case Activation::Silu: return finishTile<Activation::Silu>(f);
    case Activation::Relu: return finishTile<Activation::Relu>(f);
    case Activation::TanhClamp: break;
  }
}

// -- attention ------------------------------------------------------------------------------------------------------------

static float softmaxRow(const SoftmaxRow& s) {
  constexpr float kNever = -__builtin_inff();
  for (int64_t i = s.keys; i < s.padded; ++i) s.logits[i] = kNever;
  if (s.lastBias != 0) s.logits[s.keys - 1] += s.lastBias / s.scale;
  F highest = set1(kNever);
  for (int64_t i = 0; i < s.padded; i += W) {
    F x = load(s.logits + i) * s.scale;
    if (s.bias) {
      const int64_t left = s.keys - i;
      x += left >= W ? load(s.bias + i) : loadPart(s.bias + i, left > 0 ? left : 0);
    }
    store(s.logits + i, x);
    highest = max(highest, x);
  }
  const float block = maximum(highest), before = *s.maximum;
  const float now = block > before ? block : before;
  // A row that has only seen -inf has no probabilities yet; subtracting 0 keeps them 0 instead of NaN.
  const F shift = set1(now == kNever ? 0.0f : now);
  F total{};
  for (int64_t i = 0; i < s.padded; i += W) {
    const F p = exp(load(s.logits + i) - shift);
    total += p;
    if (s.rounded) storeBf16(s.rounded + i, p);
    else store(s.logits + i, p);
  }
  const float shrink = before == now ? 1.0f : exp(set1(before) - shift)[0];
  *s.maximum = now;
  *s.sum = *s.sum * shrink + sum(total);
  return shrink;
}

static void scaleRow(float* row, int64_t n, float factor) {
  forEachVector(n, [&](int64_t i) { store(row + i, load(row + i) * factor); },
                [&](int64_t i, int64_t left) { storePart(row + i, loadPart(row + i, left) * factor, left); });
}

#if defined(__AVX512F__)
// Transposes 16 vectors of 16 words: pairs, quads, then 128-bit quarters.
static inline void transpose(__m512i (&v)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // v[i], v[4+i], v[8+i], v[12+i]: word 4q+i of rows 0-3, 4-7, 8-11, 12-15 in quarter q
    const __m512i a = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x88), b = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x88);
    const __m512i c = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xdd), d = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xdd);
    t[i] = _mm512_shuffle_i32x4(a, b, 0x88);
    t[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
    t[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
  }
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}
#endif

// word(row, w) is word w of a key; wide(row, w) are words w .. w+15 of it, for AVX-512.
template <class Row, class Word, class Wide>
static inline void packKeys(uint32_t* out, const Row* rows, int64_t keys, int64_t used, int64_t words, Word word, Wide wide) {
  for (int64_t first = 0; first < keys; first += 32, out += words * 32) {
    const int64_t n = keys - first < 32 ? keys - first : 32;
    int64_t w = 0;
#if defined(__AVX512F__)
    for (; w + 16 <= used; w += 16) {
      for (int64_t half = 0; half < 32; half += 16) {
        __m512i v[16];
        for (int64_t i = 0; i < 16; ++i) v[i] = half + i < n ? wide(rows[first + half + i], w) : _mm512_setzero_si512();
        transpose(v);
        for (int64_t i = 0; i < 16; ++i) _mm512_storeu_si512(out + (w + i) * 32 + half, v[i]);
      }
    }
#else
    (void)wide;
#endif
    for (; w < words; ++w) {
      for (int64_t i = 0; i < 32; ++i) out[w * 32 + i] = i < n && w < used ? word(rows[first + i], w) : 0;
    }
  }
}

static inline uint32_t bitsOf(float x) { uint32_t u; __builtin_memcpy(&u, &x, 4); return u; }

static void packKeysF32(uint32_t* out, const float* const* rows, int64_t keys, int64_t headDim, int64_t words) {
  packKeys(out, rows, keys, headDim, words, [](const float* r, int64_t w) { return bitsOf(r[w]); },
#if defined(__AVX512F__)
           [](const float* r, int64_t w) { return _mm512_loadu_si512(r + w); });
#else
           0);
#endif
}
static void packKeysWidened(uint32_t* out, const bf16* const* rows, int64_t keys, int64_t headDim, int64_t words) {
  packKeys(out, rows, keys, headDim, words, [](const bf16* r, int64_t w) { return static_cast<uint32_t>(r[w]) << 16; },
#if defined(__AVX512F__)
           [](const bf16* r, int64_t w) { return (__m512i)loadBf16(r + w); });
#else
           0);
#endif
}
static void packKeysPairs(uint32_t* out, const bf16* const* rows, int64_t keys, int64_t headDim, int64_t words) {
  const auto pair = [headDim](const bf16* r, int64_t w) {
    return r[2 * w] | static_cast<uint32_t>(2 * w + 1 < headDim ? r[2 * w + 1] : 0) << 16;
  };
#if defined(__AVX512F__)
  const auto wide = [](const bf16* r, int64_t w) { return _mm512_loadu_si512(r + 2 * w); };
  if (headDim % 2 == 0) return packKeys(out, rows, keys, headDim / 2, words, pair, wide);
  // The last word of an odd head must not read the next head's first element.
  packKeys(out, rows, keys, (headDim + 1) / 2, words, pair, [&](const bf16* r, int64_t w) {
    alignas(64) uint32_t word[16];
    for (int64_t i = 0; i < 16; ++i) word[i] = pair(r, w + i);
    return _mm512_load_si512(word);
  });
#else
  packKeys(out, rows, keys, (headDim + 1) / 2, words, pair, 0);
#endif
}

// lane(j, d, n) are channels d .. d+n-1 of word j; n is W except at the end of the head.
template <class Lane>
static inline void packValues(uint32_t* out, int64_t used, int64_t headDim, int64_t words, Lane lane) {
  for (int64_t first = 0; first < headDim; first += 32, out += words * 32) {
    for (int64_t j = 0; j < words; ++j) {
      for (int64_t d = 0; d < 32; d += W) {
        const int64_t left = headDim - first - d;
        U v{};
        if (j < used && left > 0) v = lane(j, first + d, left < W ? left : W);
        store(out + j * 32 + d, v);
      }
    }
  }
}

static void packValuesF32(uint32_t* out, const float* const* rows, int64_t keys, int64_t headDim, int64_t words) {
  packValues(out, keys, headDim, words, [&](int64_t j, int64_t d, int64_t n) { return (U)read(rows[j] + d, n); });
}
static void packValuesWidened(uint32_t* out, const bf16* const* rows, int64_t keys, int64_t headDim, int64_t words) {
  packValues(out, keys, headDim, words, [&](int64_t j, int64_t d, int64_t n) { return (U)read(rows[j] + d, n); });
}
static void packValuesPairs(uint32_t* out, const bf16* const* rows, int64_t keys, int64_t headDim, int64_t words) {
  packValues(out, (keys + 1) / 2, headDim, words, [&](int64_t j, int64_t d, int64_t n) {
    const U low = (U)read(rows[2 * j] + d, n);
    return 2 * j + 1 < keys ? low >> 16 | (U)read(rows[2 * j + 1] + d, n) : low >> 16;
  });
}

// -- normalisation --------------------------------------------------------------------------------------------------------

// Sum of term(x) over a row, with four accumulators to hide the latency of additions.
template <class Term>
static inline float sumOf(const float* in, int64_t n, Term term) {
  F acc[4] = {};
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
    for (int k = 0; k < 4; ++k) acc[k] = term(acc[k], load(in + i + k * W));
  for (; i + W <= n; i += W) acc[0] = term(acc[0], load(in + i));
  float total = sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
  for (; i < n; ++i) total += term(F{}, set1(in[i]))[0];
  return total;
}

static void layerNorm(float* out, const float* in, int64_t n, const float* weight, const float* bias, float addOne, float eps) {
  const float mean = sumOf(in, n, [](F acc, F x) { return acc + x; }) / static_cast<float>(n);
  const F m = set1(mean);
  const float variance = sumOf(in, n, [m](F acc, F x) { return fma(x - m, x - m, acc); }) / static_cast<float>(n);
  const F inverse = set1(1.0f / std::sqrt(variance + eps)), one = set1(addOne);
  forEachVector(
      n, [&](int64_t i) { store(out + i, fma((load(in + i) - m) * inverse, load(weight + i) + one, load(bias + i))); },
      [&](int64_t i, int64_t k) {
        storePart(out + i, fma((loadPart(in + i, k) - m) * inverse, loadPart(weight + i, k) + one, loadPart(bias + i, k)), k);
      });
}

static void rmsNorm(float* out, const float* in, int64_t n, const float* weight, float eps) {
  const float square = sumOf(in, n, [](F acc, F x) { return fma(x, x, acc); }) / static_cast<float>(n);
  const F inverse = set1(1.0f / std::sqrt(square + eps));
  forEachVector(n, [&](int64_t i) { store(out + i, load(in + i) * inverse * load(weight + i)); },
                [&](int64_t i, int64_t k) {
                  storePart(out + i, loadPart(in + i, k) * inverse * loadPart(weight + i, k), k);
                });
}

static void rotate(float* out, const float* in, int64_t heads, int64_t headDim, const float* cosine, const float* sine) {
  for (int64_t h = 0; h < heads; ++h, out += headDim, in += headDim) {
    forEachVector(headDim,
                  [&](int64_t i) {
                    const F x = load(in + i);
                    store(out + i, fma(x, load(cosine + i), swapPairs(x) * load(sine + i)));
                  },
                  [&](int64_t i, int64_t k) {
                    const F x = loadPart(in + i, k);
                    storePart(out + i, fma(x, loadPart(cosine + i, k), swapPairs(x) * loadPart(sine + i, k)), k);
                  });
  }
}

// -- elementwise ----------------------------------------------------------------------------------------------------------

template <Activation A>
static void activateAll(float* out, const float* in, int64_t n) {
  forEachVector(n, [&](int64_t i) { store(out + i, activated<A>(load(in + i))); },
                [&](int64_t i, int64_t k) { storePart(out + i, activated<A>(loadPart(in + i, k)), k); });
}

static void activate(float* out, const float* in, int64_t n, Activation a) {
  switch (a) {
    case Activation::None: return activateAll<Activation::None>(out, in, n);
    case Activation::GeluTanh: return activateAll<Activation::GeluTanh>(out, in, n);
    case Activation::Silu: return activateAll<Activation::Silu>(out, in, n);
    case Activation::Relu: return activateAll<Activation::Relu>(out, in, n);
    case Activation::TanhClamp: break;
  }
}

static void add(float* out, const float* a, const float* b, int64_t n) {
  forEachVector(n, [&](int64_t i) { store(out + i, load(a + i) + load(b + i)); },
                [&](int64_t i, int64_t k) { storePart(out + i, loadPart(a + i, k) + loadPart(b + i, k), k); });
}

constexpr VectorOps makeVectorOps(const char* name) {
  return {name,          toBf16,          fromBf16,      throughBf16,   absMaximum,        allFinite,       allFiniteBf16,
          quantize,      widenPanel,      floatPairs,    floatBytes,       finishLinear,  softmaxRow,
          scaleRow,      packKeysF32,     packKeysWidened, packKeysPairs,   packValuesF32,   packValuesWidened,
          packValuesPairs, layerNorm,     rmsNorm,       rotate,            activate,        add};
}

}  // namespace longlive::cpu::SIMD

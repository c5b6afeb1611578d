// Elementwise operations and noise.
//
// Noise is counter-based: element i of a call is a pure function of (seed, block, step, i), so any thread may compute any
// part of it and a resumed session draws what the first one drew.
//   Philox4x32-10 (Salmon et al., SC 2011): ten rounds of two 32 x 32 -> 64 bit multiplications on a 128-bit counter
//   Box-Muller: u1 in (0, 1], u2 in [0, 1): sqrt(-2 ln u1) * (cos, sin)(2 pi u2)
// Logarithm and sine are series in plain IEEE double arithmetic instead of the C library's, whose last bits differ between
// versions; their error (below 1e-14) vanishes when the result is rounded to F32. This file must be compiled without
// contraction into fused multiply-adds (-ffp-contract=off).
#include <cmath>
#include <cstring>

#include "kernels.h"
#include "vector_ops.h"

namespace longlive::cpu {
namespace {

constexpr int64_t kGrain = 16384;  // elements per chunk

struct Counter { uint32_t x[4]; };

Counter philox(Counter c, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p = 0xD2511F53ull * c.x[0], q = 0xCD9E8D57ull * c.x[2];
    c = {{static_cast<uint32_t>(q >> 32) ^ c.x[1] ^ key0, static_cast<uint32_t>(q),
          static_cast<uint32_t>(p >> 32) ^ c.x[3] ^ key1, static_cast<uint32_t>(p)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

// ln x for normal x: x = m 2^e with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
double logarithm(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, 8);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  bits = (bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull;
  double m;
  std::memcpy(&m, &bits, 8);
  if (m > 1.4142135623730951) m *= 0.5, ++exponent;
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double series = 0.0;
  for (int k = 19; k >= 1; k -= 2) series = series * z + 1.0 / k;
  return exponent * 0.6931471805599453 + 2.0 * s * series;
}

// Cosine and sine of 2 pi t, 0 <= t < 1: the nearest quarter turn, then |x| <= pi / 4 and nested Taylor series
//   cos x = 1 - z/(1*2) (1 - z/(3*4) (...)),   sin x = x (1 - z/(2*3) (1 - z/(4*5) (...))),   z = x^2.
void circle(double t, double& cosine, double& sine) {
  const int quarter = static_cast<int>(t * 4.0 + 0.5);
  const double x = (t - quarter * 0.25) * 6.283185307179586, z = x * x;
  double c = 1.0, s = 1.0;
  for (int k = 15; k >= 1; k -= 2) {
    c = 1.0 - c * z / (k * (k + 1));
    s = 1.0 - s * z / ((k + 1) * (k + 2));
  }
  s *= x;
  switch (quarter & 3) {
    case 0: cosine = c, sine = s; break;
    case 1: cosine = -s, sine = c; break;
    case 2: cosine = -c, sine = -s; break;
    default: cosine = s, sine = -c; break;
  }
}

}  // namespace

void activate(Context& c, float* out, const float* in, int64_t n, Activation a) {
  c.pool.parallelFor(0, n, kGrain, [&](int64_t begin, int64_t end, int) {
    c.vector.activate(out + begin, in + begin, end - begin, a);
  });
}

void add(Context& c, float* out, const float* a, const float* b, int64_t n, int64_t period) {
  if (n <= 0) return;
  const int64_t rows = n / period;
  c.pool.parallelFor(0, rows, kGrain / period + 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) c.vector.add(out + r * period, a + r * period, b, period);
  });
}

void axpby(Context& c, float* out, float alpha, const float* a, float beta, const float* b, int64_t n) {
  c.pool.parallelFor(0, n, kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out[i] = alpha * a[i] + beta * b[i];
  });
}

void toBf16(Context& c, bf16* out, const float* in, int64_t n) {
  c.pool.parallelFor(0, n, kGrain, [&](int64_t begin, int64_t end, int) {
    c.vector.toBf16(out + begin, in + begin, end - begin);
  });
}

void fromBf16(Context& c, float* out, const bf16* in, int64_t n) {
  c.pool.parallelFor(0, n, kGrain, [&](int64_t begin, int64_t end, int) {
    c.vector.fromBf16(out + begin, in + begin, end - begin);
  });
}

void gaussian(Context& c, float* out, int64_t n, uint64_t seed, uint32_t block, uint32_t step) {
  c.pool.parallelFor(0, (n + 3) / 4, 1024, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const auto index = static_cast<uint64_t>(i);
      const Counter random = philox({{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), block, step}},
                                    static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
      float four[4];
      for (int pair = 0; pair < 2; ++pair) {
        const double u1 = (random.x[2 * pair] + 1.0) * 0x1p-32, u2 = random.x[2 * pair + 1] * 0x1p-32;
        const double radius = std::sqrt(-2.0 * logarithm(u1));
        double cosine, sine;
        circle(u2, cosine, sine);
        four[2 * pair] = static_cast<float>(radius * cosine);
        four[2 * pair + 1] = static_cast<float>(radius * sine);
      }
      for (int64_t j = 0; j < 4 && 4 * i + j < n; ++j) out[4 * i + j] = four[j];
    }
  });
}

}  // namespace longlive::cpu

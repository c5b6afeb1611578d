// Gaussian noise, the same bits on every backend. Element i of a call is a pure function of (seed, block, step, i), so any thread may
// compute any part of it and a resumed session draws what the first one drew.
//   Philox4x32-10 (Salmon et al., SC 2011): ten rounds of two 32 x 32 -> 64 bit multiplications on a 128-bit counter
//   Box-Muller: u1 in (0, 1], u2 in [0, 1): sqrt(-2 ln u1) * (cos, sin)(2 pi u2)
// Logarithm and sine are series in plain IEEE double arithmetic instead of the C library's, whose last bits differ between versions; their
// error (below 1e-14) vanishes when the result is rounded to F32. Whoever includes this must be compiled without contraction into fused
// multiply-adds (-ffp-contract=off, -fmad=false).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define LONGLIVE_NOISE __host__ __device__ inline
#else
#define LONGLIVE_NOISE inline
#endif

namespace longlive::noise {

struct Counter { uint32_t x[4]; };

LONGLIVE_NOISE Counter philox(Counter c, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p = 0xD2511F53ull * c.x[0], q = 0xCD9E8D57ull * c.x[2];
    c = {{static_cast<uint32_t>(q >> 32) ^ c.x[1] ^ key0, static_cast<uint32_t>(q), static_cast<uint32_t>(p >> 32) ^ c.x[3] ^ key1,
          static_cast<uint32_t>(p)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

// ln x for normal x: x = m 2^e with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
LONGLIVE_NOISE double logarithm(double x) {
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
LONGLIVE_NOISE void circle(double t, double& cosine, double& sine) {
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

// Elements 4 index to 4 index + 3.
LONGLIVE_NOISE void four(float (&out)[4], uint64_t index, uint64_t seed, uint32_t block, uint32_t step) {
  const Counter random = philox({{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), block, step}}, static_cast<uint32_t>(seed),
                                static_cast<uint32_t>(seed >> 32));
  for (int pair = 0; pair < 2; ++pair) {
    const double u1 = (random.x[2 * pair] + 1.0) * 0x1p-32, u2 = random.x[2 * pair + 1] * 0x1p-32;
    const double radius = std::sqrt(-2.0 * logarithm(u1));
    double cosine, sine;
    circle(u2, cosine, sine);
    out[2 * pair] = static_cast<float>(radius * cosine);
    out[2 * pair + 1] = static_cast<float>(radius * sine);
  }
}

}  // namespace longlive::noise

#undef LONGLIVE_NOISE

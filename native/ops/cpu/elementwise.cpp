// Elementwise operations and noise (noise.h says how this file must be compiled).
#include "kernels.h"
#include "noise.h"
#include "vector_ops.h"

namespace longlive::cpu {
namespace {

constexpr int64_t kGrain = 16384;  // elements per chunk

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
      float four[4];
      noise::four(four, static_cast<uint64_t>(i), seed, block, step);
      for (int64_t j = 0; j < 4 && 4 * i + j < n; ++j) out[4 * i + j] = four[j];
    }
  });
}

}  // namespace longlive::cpu

// Convolution kernels for AVX2 and FMA: six pixels by 16 channels in twelve registers, F32.
#include <immintrin.h>

#include "conv_scalar.h"

namespace longlive::cpu {
namespace {

constexpr int kPixels = 6;

void accumulate(const ConvTile& t, float* acc) {
  __m256 lo[kPixels], hi[kPixels];
  for (int p = 0; p < kPixels; ++p) lo[p] = hi[p] = _mm256_setzero_ps();
  for (int r = 0; r < t.rowCount; ++r) {
    const float* in = static_cast<const float*>(t.rows[r]);
    const float* w = static_cast<const float*>(t.weights[r]);
    for (int k = 0; k < t.run; ++k, w += kConvLanes) {
      const __m256 w0 = _mm256_loadu_ps(w), w1 = _mm256_loadu_ps(w + 8);
#pragma GCC unroll 6
      for (int p = 0; p < kPixels; ++p) {
        const __m256 x = _mm256_broadcast_ss(in + p * t.pixelStride + k);
        lo[p] = _mm256_fmadd_ps(x, w0, lo[p]);
        hi[p] = _mm256_fmadd_ps(x, w1, hi[p]);
      }
    }
  }
  for (int p = 0; p < kPixels; ++p) {
    _mm256_storeu_ps(acc + p * kConvLanes, lo[p]);
    _mm256_storeu_ps(acc + p * kConvLanes + 8, hi[p]);
  }
}

}  // namespace

const ConvKernels& avx2ConvKernels() {
  static const ConvKernels k = {"avx2", DType::F32, 1,           1,         {kPixels, 0},
                                {accumulate, nullptr}, finishScalar, normScalar};
  return k;
}

}  // namespace longlive::cpu

// Convolution kernels for AVX-512 with VPDPBUSD: inputs are unsigned bytes, weights signed ones, sums exact integers.
#include "conv_avx512.h"

namespace longlive::cpu {
namespace {

constexpr int kQuad = 4;

// Stride 0 reads the stride from the tile, as accumulateTile does.
template <int Pixels, int Blocks, int Stride>
void accumulateBytesTile(const ConvTile& t, float* acc) {
  const int64_t stride = Stride ? Stride : t.pixelStride;
  __m512i sum[Pixels][Blocks];
#pragma GCC unroll 24
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 2
    for (int b = 0; b < Blocks; ++b) sum[p][b] = _mm512_load_si512(t.start + b * kConvLanes);
  for (int r = 0; r < t.rowCount; ++r) {
    const uint8_t* in = static_cast<const uint8_t*>(t.rows[r]);
    const __m512i* w = static_cast<const __m512i*>(t.weights[r]);
    for (int k = 0; k < t.run; k += kQuad, w += Blocks) {
      __m512i weight[Blocks];
#pragma GCC unroll 2
      for (int b = 0; b < Blocks; ++b) weight[b] = _mm512_load_si512(w + b);
#pragma GCC unroll 24
      for (int p = 0; p < Pixels; ++p) {
        int32_t quad;
        std::memcpy(&quad, in + p * stride + k, kQuad);
#pragma GCC unroll 2
        for (int b = 0; b < Blocks; ++b) sum[p][b] = _mm512_dpbusd_epi32(sum[p][b], _mm512_set1_epi32(quad), weight[b]);
      }
    }
  }
#pragma GCC unroll 24
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 2
    for (int b = 0; b < Blocks; ++b)
      _mm512_store_ps(acc + (p * Blocks + b) * kConvLanes, _mm512_mul_ps(_mm512_cvtepi32_ps(sum[p][b]), _mm512_load_ps(t.scale + b * kConvLanes)));
}

template <int Pixels, int Blocks>
void accumulateBytes(const ConvTile& t, float* acc) {
  switch (t.pixelStride) {
    case 16: return accumulateBytesTile<Pixels, Blocks, 16>(t, acc);
    case 32: return accumulateBytesTile<Pixels, Blocks, 32>(t, acc);
    case 64: return accumulateBytesTile<Pixels, Blocks, 64>(t, acc);
    case 96: return accumulateBytesTile<Pixels, Blocks, 96>(t, acc);
    case 128: return accumulateBytesTile<Pixels, Blocks, 128>(t, acc);
    default: return accumulateBytesTile<Pixels, Blocks, 0>(t, acc);
  }
}

}  // namespace

const ConvKernels& avx512VnniConvKernels() {
  static const ConvKernels k = {"avx512vnni", DType::U8, kQuad, 2, {24, 12}, {accumulateBytes<24, 1>, accumulateBytes<12, 2>}, finish512, norm512};
  return k;
}

}  // namespace longlive::cpu

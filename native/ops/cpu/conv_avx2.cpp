// Convolution kernels for AVX2 and FMA: of 16 registers, twelve hold six pixels by 16 channels in F32, ten five pixels in bytes.
#define SIMD avx2
#include "conv_simd.h"

namespace longlive::cpu {
namespace avx2 {

// Four bytes, unsigned in A, signed and at most 63 in B, so that VPMADDUBSW's sums of two products never saturate: 2 * 255 * 63 < 2^15.
struct DotSmallWeights {
  static constexpr float kLargestWeight = 63;
  using Acc = I;
  using Operand = U;
  static inline Operand loadVector(const uint32_t* b) { return load(b); }
  static inline Operand broadcast(const void* a) { return broadcastWord(a); }
  static inline Acc dot(Acc acc, Operand a, Operand b) {
    return acc + (I)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)a, (__m256i)b), _mm256_set1_epi16(1));
  }
};

}  // namespace avx2

const ConvKernels& avx2ConvKernels() {
  static const ConvKernels k = avx2::floatKernels<6>("avx2");
  return k;
}

const ConvKernels& avx2ByteConvKernels() {
  static const ConvKernels k = avx2::byteKernels<avx2::DotSmallWeights, 5>("avx2 u8 by i7");
  return k;
}

}  // namespace longlive::cpu

// Convolution kernels for AVX-512 with VPDPBUSD: inputs are unsigned bytes, weights signed ones, sums exact integers.
#include "conv_avx512.h"

namespace longlive::cpu {

const ConvKernels& avx512VnniConvKernels() {
  static const ConvKernels k = {"avx512vnni", DType::U8, 4, 2, {24, 12},
                                {accumulate512<uint8_t, 24, 1>, accumulate512<uint8_t, 12, 2>},
                                avx512ConvKernels().finish, avx512ConvKernels().norm};  // which have no more to gain
  return k;
}

}  // namespace longlive::cpu

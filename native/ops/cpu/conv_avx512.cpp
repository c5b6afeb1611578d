// Convolution kernels for AVX-512, F32.
#include "conv_avx512.h"

namespace longlive::cpu {

const ConvKernels& avx512ConvKernels() {
  static const ConvKernels k = {"avx512", DType::F32, 1, 2, {24, 12},
                                {accumulate512<float, 24, 1>, accumulate512<float, 12, 2>}, finish512, norm512};
  return k;
}

}  // namespace longlive::cpu

// Convolution kernels for AVX-512 with VDPBF16PS: bf16 inputs and weights, F32 sums.
#include "conv_avx512.h"

namespace longlive::cpu {

const ConvKernels& avx512Bf16ConvKernels() {
  static const ConvKernels k = {"avx512bf16", DType::BF16, 2, 2, {24, 12},
                                {accumulate512<Bf16, 24, 1>, accumulate512<Bf16, 12, 2>}, finish512, norm512};
  return k;
}

}  // namespace longlive::cpu

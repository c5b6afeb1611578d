// Convolution kernels for NEON: of 32 registers, 24 hold six pixels by 16 channels.
#define SIMD neon
#include "conv_simd.h"

namespace longlive::cpu {

const ConvKernels& neonConvKernels() {
  static const ConvKernels k = neon::floatKernels<6>("neon");
  return k;
}

}  // namespace longlive::cpu

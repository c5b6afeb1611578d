// Convolution kernels for NEON with SDOT: inputs are unsigned bytes, weights signed ones, sums exact integers. Four registers add up weights.
#define SIMD neondot
#include "conv_simd.h"

namespace longlive::cpu {

const ConvKernels& neonDotConvKernels() {
  static const ConvKernels k = neondot::byteKernels<neondot::DotSigned, 5>("neondot");
  return k;
}

}  // namespace longlive::cpu

// Matrix kernels for NEON: of 32 registers, 24 hold accumulators of six rows by four vectors.
#define SIMD neon
#include "gemm_micro.h"

namespace longlive::cpu::neon {
const GemmKernel gemmF32 = makeGemmKernel<DotF32, 6, 4>("neon f32");
const GemmKernel gemmInt8 = makeGemmKernel<DotInt8, 4, 2>("neon int8 by int32");
}  // namespace longlive::cpu::neon

// Matrix kernels for NEON with SDOT: each lane adds four products of bytes to a 32-bit integer, exactly.
#define SIMD neondot
#include "gemm_micro.h"

namespace longlive::cpu::neondot {
const GemmKernel gemmInt8 = makeGemmKernel<DotSigned, 5, 4>("neondot");
}  // namespace longlive::cpu::neondot

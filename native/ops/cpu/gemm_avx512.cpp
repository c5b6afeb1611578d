// Matrix kernels for AVX-512: 32 registers hold 24 accumulators (12 rows by a whole panel), B and broadcasts.
#define SIMD avx512
#include "gemm_micro.h"

namespace longlive::cpu::avx512 {
const GemmKernel gemmF32 = makeGemmKernel<DotF32, 12, 2>("avx512 f32");
const GemmKernel gemmInt8 = makeGemmKernel<DotInt8, 10, 2>("avx512 int8 by int16");
}  // namespace longlive::cpu::avx512

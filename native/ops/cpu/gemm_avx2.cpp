// Matrix kernels for AVX2 and FMA: 16 registers hold 12 accumulators, B and one broadcast.
#define SIMD avx2
#include "gemm_micro.h"

namespace longlive::cpu::avx2 {
const GemmKernel gemmF32 = makeGemmKernel<DotF32, 6, 2>("avx2 f32");
const GemmKernel gemmInt8 = makeGemmKernel<DotInt8, 4, 2>("avx2 int8 by int16");
}  // namespace longlive::cpu::avx2

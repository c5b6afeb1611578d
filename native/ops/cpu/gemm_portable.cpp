// Matrix kernels in portable C++: four-lane vectors, which any compiler maps to what the target has.
#define SIMD portable
#include "gemm_micro.h"

namespace longlive::cpu::portable {
const GemmKernel gemmF32 = makeGemmKernel<DotF32, 4, 2>("portable f32");
const GemmKernel gemmBf16 = makeGemmKernel<DotBf16, 4, 2>("portable bf16");
const GemmKernel gemmInt8 = makeGemmKernel<DotInt8, 4, 2>("portable int8");
}  // namespace longlive::cpu::portable

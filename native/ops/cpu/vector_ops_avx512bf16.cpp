// AVX-512 with the conversion to bf16 in one instruction.
#define SIMD avx512bf16
#include "vector_ops_impl.h"

namespace longlive::cpu::avx512bf16 {
const VectorOps vectorOps = makeVectorOps("avx512bf16");
}  // namespace longlive::cpu::avx512bf16

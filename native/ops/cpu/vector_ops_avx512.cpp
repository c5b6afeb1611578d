#define SIMD avx512
#include "vector_ops_impl.h"

namespace longlive::cpu::avx512 {
const VectorOps vectorOps = makeVectorOps("avx512");
}  // namespace longlive::cpu::avx512

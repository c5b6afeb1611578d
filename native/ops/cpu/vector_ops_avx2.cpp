#define SIMD avx2
#include "vector_ops_impl.h"

namespace longlive::cpu::avx2 {
const VectorOps vectorOps = makeVectorOps("avx2");
}  // namespace longlive::cpu::avx2

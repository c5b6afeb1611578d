#define SIMD neon
#include "vector_ops_impl.h"

namespace longlive::cpu::neon {
const VectorOps vectorOps = makeVectorOps("neon");
}  // namespace longlive::cpu::neon

#define SIMD portable
#include "vector_ops_impl.h"

namespace longlive::cpu::portable {
const VectorOps vectorOps = makeVectorOps("portable");
}  // namespace longlive::cpu::portable

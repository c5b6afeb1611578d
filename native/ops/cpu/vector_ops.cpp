#include "vector_ops.h"

#include "kernels.h"

namespace longlive::cpu {

const VectorOps& vectorOps(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::Avx512Bf16) return avx512bf16::vectorOps;
  if (isa >= Isa::Avx512) return avx512::vectorOps;
  if (isa >= Isa::Avx2) return avx2::vectorOps;
#elif defined(__aarch64__)
  if (isa >= Isa::Neon) return neon::vectorOps;
#endif
  (void)isa;
  return portable::vectorOps;
}

Context::Context(ThreadPool& p, Isa i) : pool(p), isa(i), vector(vectorOps(i)) {}

}  // namespace longlive::cpu

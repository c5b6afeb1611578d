// VDPBF16PS: each lane adds two products of bf16 to an F32 accumulator.
#define SIMD avx512bf16
#include "gemm_micro.h"

namespace longlive::cpu::avx512bf16 {

struct DotPairs {
  using Acc = F;
  using Operand = __m512i;
  static inline Operand loadVector(const uint32_t* b) { return _mm512_loadu_si512(b); }
  static inline Operand broadcast(const uint32_t* a) { return _mm512_set1_epi32(static_cast<int>(*a)); }
  static inline Acc dot(Acc acc, Operand a, Operand b) { return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b); }
};

const GemmKernel gemmBf16 = makeGemmKernel<DotPairs, 12, 2>("avx512bf16");

}  // namespace longlive::cpu::avx512bf16

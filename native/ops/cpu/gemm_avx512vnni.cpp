// VPDPBUSD: each lane adds four products of an unsigned and a signed byte to a 32-bit integer, exactly.
#define SIMD avx512vnni
#include "gemm_micro.h"

namespace longlive::cpu::avx512vnni {

struct DotQuads {
  using Acc = I;
  using Operand = __m512i;
  static inline Operand loadVector(const uint32_t* b) { return _mm512_loadu_si512(b); }
  static inline Operand broadcast(const uint32_t* a) { return _mm512_set1_epi32(static_cast<int>(*a)); }
  static inline Acc dot(Acc acc, Operand a, Operand b) { return (I)_mm512_dpbusd_epi32((__m512i)acc, a, b); }
};

const GemmKernel gemmInt8 = makeGemmKernel<DotQuads, 12, 2>("avx512vnni");

}  // namespace longlive::cpu::avx512vnni

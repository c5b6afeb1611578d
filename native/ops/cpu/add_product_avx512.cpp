#define SIMD avx512
#include "add_product_impl.h"

namespace longlive::cpu::avx512 {
const ProductKernel productKernel = makeProductKernel<4, 4>();
}  // namespace longlive::cpu::avx512

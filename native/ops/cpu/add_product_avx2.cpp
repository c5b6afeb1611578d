#define SIMD avx2
#include "add_product_impl.h"

namespace longlive::cpu::avx2 {
const ProductKernel productKernel = makeProductKernel<4, 2>();
}  // namespace longlive::cpu::avx2

#define SIMD portable
#include "add_product_impl.h"

namespace longlive::cpu::portable {
const ProductKernel productKernel = makeProductKernel<4, 2>();
}  // namespace longlive::cpu::portable

#define SIMD neon
#include "add_product_impl.h"

namespace longlive::cpu::neon {
const ProductKernel productKernel = makeProductKernel<4, 4>();
}  // namespace longlive::cpu::neon

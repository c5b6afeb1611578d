#include "add_product.h"

#include <algorithm>

#include "longlive/error.h"
#include "longlive/weights.h"

namespace longlive {

namespace cpu {

namespace {

const ProductKernel& kernelOf(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::Avx512) return avx512::productKernel;
  if (isa >= Isa::Avx2) return avx2::productKernel;
#elif defined(__aarch64__)
  if (isa >= Isa::Neon) return neon::productKernel;
#endif
  (void)isa;
  return portable::productKernel;
}

}  // namespace

void addProduct(ThreadPool& pool, Isa isa, const Product& p) {
  const ProductKernel& kernel = kernelOf(isa);
  const size_t packedBytes = static_cast<size_t>(p.rank) * static_cast<size_t>(kernel.panel) * sizeof(double);
  const int64_t panels = (p.columns + kernel.panel - 1) / kernel.panel;
  pool.parallelFor(0, panels, 1, [&](int64_t begin, int64_t end, int thread) {
    auto* packed = static_cast<double*>(pool.scratch(thread));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * kernel.panel;
      kernel.addPanel(p, first, std::min<int64_t>(kernel.panel, p.columns - first), packed);
    }
  }, packedBytes);
}

}  // namespace cpu

void addProduct(std::span<float> values, std::span<const double> b, std::span<const float> a, int64_t rank) {
  const auto width = static_cast<size_t>(std::max<int64_t>(rank, 1));
  const size_t rows = b.size() / width, columns = a.size() / width;
  if (rank < 1 || rows * width != b.size() || columns * width != a.size() || rows * columns != values.size()) {
    throw Error(ErrorCode::InvalidArgument, "addProduct: the sizes of values, b and a do not agree at rank " + std::to_string(rank));
  }
  cpu::ThreadPool pool;
  cpu::addProduct(pool, cpu::detectIsa(),
                  {values.data(), b.data(), a.data(), static_cast<int64_t>(rows), static_cast<int64_t>(columns), rank});
}

}  // namespace longlive

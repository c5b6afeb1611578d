// values += b a in double precision, for the merging of adapters (longlive/weights.h).
//
// Columns are taken in panels. A panel of `a` is widened to doubles and laid out rank by rank, so that the inner loop reads
// it in order from the nearest cache; tiles of a few rows by a whole panel keep their sums in registers over all ranks.
#pragma once

#include <cstdint>

#include "cpu_features.h"
#include "thread_pool.h"

namespace longlive::cpu {

struct Product {
  float* values;    // [rows, columns]
  const double* b;  // [rows, rank]
  const float* a;   // [rank, columns]
  int64_t rows, columns, rank;
};

struct ProductKernel {
  int panel;  // columns
  // Columns [first, first + count) of the result, count <= panel; `packed` has room for rank * panel doubles.
  void (*addPanel)(const Product& p, int64_t first, int64_t count, double* packed);
};

void addProduct(ThreadPool& pool, Isa isa, const Product& p);

namespace portable { extern const ProductKernel productKernel; }
#if defined(__x86_64__)
namespace avx2 { extern const ProductKernel productKernel; }
namespace avx512 { extern const ProductKernel productKernel; }
#elif defined(__aarch64__)
namespace neon { extern const ProductKernel productKernel; }
#endif

}  // namespace longlive::cpu

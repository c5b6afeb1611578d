// The source of every ProductKernel; see add_product.h for the contract and simd.h for how it is compiled.
#pragma once

#include "add_product.h"
#include "simd.h"

namespace longlive::cpu::SIMD {

constexpr int D = W / 2;
typedef double Doubles __attribute__((vector_size(8 * D)));

static inline Doubles loadDoubles(const double* p) { Doubles v; __builtin_memcpy(&v, p, sizeof v); return v; }

static void pack(const Product& p, int64_t first, int64_t count, int64_t panel, double* packed) {
  for (int64_t r = 0; r < p.rank; ++r) {
    const float* row = p.a + r * p.columns + first;
    for (int64_t j = 0; j < panel; ++j) packed[r * panel + j] = j < count ? static_cast<double>(row[j]) : 0.0;
  }
}

// `Rows` rows by `Vectors` vectors of columns. Rows beyond the matrix are computed as its last one and not stored.
template <int Rows, int Vectors>
static void addPanel(const Product& p, int64_t first, int64_t count, double* packed) {
  constexpr int64_t panel = Vectors * D;
  pack(p, first, count, panel, packed);
  for (int64_t top = 0; top < p.rows; top += Rows) {
    const double* b[Rows];
    for (int i = 0; i < Rows; ++i) b[i] = p.b + (top + i < p.rows ? top + i : p.rows - 1) * p.rank;
    Doubles sum[Rows][Vectors] = {};
    for (int64_t r = 0; r < p.rank; ++r) {
      Doubles a[Vectors];
      for (int v = 0; v < Vectors; ++v) a[v] = loadDoubles(packed + r * panel + v * D);
      for (int i = 0; i < Rows; ++i) {
        const Doubles factor = Doubles{} + b[i][r];
        for (int v = 0; v < Vectors; ++v) sum[i][v] += factor * a[v];
      }
    }
    for (int i = 0; i < Rows && top + i < p.rows; ++i) {
      double total[panel];
      __builtin_memcpy(total, sum[i], sizeof total);
      float* out = p.values + (top + i) * p.columns + first;
      for (int64_t j = 0; j < count; ++j) out[j] = static_cast<float>(static_cast<double>(out[j]) + total[j]);
    }
  }
}

template <int Rows, int Vectors>
constexpr ProductKernel makeProductKernel() {
  return {Vectors * D, addPanel<Rows, Vectors>};
}

}  // namespace longlive::cpu::SIMD

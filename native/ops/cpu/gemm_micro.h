// The register-blocked micro-kernel, written once: R rows by V vectors of accumulators stay in registers over the whole
// block of words; each step loads V vectors of B and broadcasts one word of each row of A (simd_dot.h).
#pragma once

#include <type_traits>
#include <utility>

#include "gemm_kernels.h"
#include "simd.h"
#include "simd_dot.h"

namespace longlive::cpu::SIMD {

template <class Dot, int R, int V>
static void microKernel(int words, const uint32_t* a, const uint32_t* b, void* out, int64_t ldc, bool accumulate) {
  using Acc = typename Dot::Acc;
  using Element = std::remove_reference_t<decltype(Acc{}[0])>;
  auto* c = static_cast<Element*>(out);
  Acc acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = accumulate ? load(c + r * ldc + v * W) : Acc{};

  Missing<Dot, V> missing;
  for (int w = 0; w < words; ++w, ++a, b += kPanel) {
    typename Dot::Operand vector[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) vector[v] = Dot::loadVector(b + v * W);
    missing.add(vector);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const typename Dot::Operand scalar = Dot::broadcast(a + r * kStride);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = Dot::dot(acc[r][v], scalar, vector[v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(c + r * ldc + v * W, missing.with(acc[r][v], v));
}

using MicroKernel = void (*)(int, const uint32_t*, const uint32_t*, void*, int64_t, bool);

template <class Dot, int V, int... R>
static constexpr MicroKernel pickMicroKernel(int rows, std::integer_sequence<int, R...>) {
  constexpr MicroKernel table[] = {microKernel<Dot, R + 1, V>...};
  return table[rows - 1];
}

// A strip of `rows` rows against the vectors of a panel that hold its first `columns` columns, V at a time.
template <class Dot, int R, int V>
static void runStrip(int rows, int columns, int words, const uint32_t* a, const uint32_t* b, void* c, int64_t ldc,
                     bool accumulate) {
  const auto wide = pickMicroKernel<Dot, V>(rows, std::make_integer_sequence<int, R>());
  const auto narrow = pickMicroKernel<Dot, 1>(rows, std::make_integer_sequence<int, R>());
  for (int column = 0; column < columns;) {
    const bool one = columns - column <= W;
    (one ? narrow : wide)(words, a, b + column, static_cast<uint32_t*>(c) + column, ldc, accumulate);
    column += one ? W : V * W;
  }
}

static void nothing() {}

template <class Dot, int R, int V>
constexpr GemmKernel makeGemmKernel(const char* name) { return {name, R, runStrip<Dot, R, V>, nothing, nothing}; }

}  // namespace longlive::cpu::SIMD

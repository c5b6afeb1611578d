// What the tests of the CPU kernels share: random inputs, how far a result is from an oracle in double precision, and the instruction sets of
// this machine. An error is max |got - want| / max |want|.
//
// The oracle rounds operands to bf16 or int8 exactly as the kernels promise to, so that each precision is held to the error of F32
// accumulation; what the rounding itself costs is measured where models are compared. Inputs are random, shapes odd and tiny, threads one to
// three (whose results must agree bit by bit).
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>
#include "harness.h"
#include "longlive/error.h"
#include "ops/cpu/gemm_kernels.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/vector_ops.h"

namespace longlive::cpu {


using Floats = std::vector<float>;
using Doubles = std::vector<double>;

inline Floats randomFloats(size_t n, uint32_t seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  Floats v(n);
  for (float& x : v) x = normal(generator);
  return v;
}

inline float fromBits(bf16 b) {
  const uint32_t bits = static_cast<uint32_t>(b) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

inline bf16 rounded(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<bf16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline double asBf16(double x) { return fromBits(rounded(static_cast<float>(x))); }

inline std::vector<bf16> toBits(const Floats& v) {
  std::vector<bf16> out(v.size());
  std::transform(v.begin(), v.end(), out.begin(), rounded);
  return out;
}

template <class T>
inline double relativeError(const std::vector<T>& got, const Doubles& want) {
  double difference = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!(d <= difference)) difference = d;  // also when d is NaN
    largest = std::max(largest, std::abs(want[i]));
  }
  return largest > 0 ? difference / largest : difference;
}

// The worst error of a family of cases, and where it was.
struct Worst {
  double error = 0;
  std::string where = "-";
  void add(double e, const std::string& at) {
    if (!(e <= error)) error = e, where = at;
  }
  void check(const std::string& name, double tolerance) const {
    std::printf("  %-46s worst %.2e  tolerance %.0e  (%s)\n", name.c_str(), error, tolerance, where.c_str());
    CHECK(error <= tolerance);
  }
};

inline std::vector<Isa> levels() {
  std::vector<Isa> all;
  for (Isa isa : kLevels) {
    if (isa <= detectIsa()) all.push_back(isa);
  }
  return all;
}

// Levels that share the code of the level below need no second test.
inline bool hasOwnVectorOps(Isa isa) {
  return isa == Isa::Portable || &vectorOps(isa) != &vectorOps(below(isa));
}

inline const char* nameOf(Precision p) { return p == Precision::FP32 ? "fp32" : p == Precision::BF16 ? "bf16" : "int8"; }

inline double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

inline double activated(double x, Activation a) {
  switch (a) {
    case Activation::GeluTanh: return gelu(x);
    case Activation::Silu: return x / (1 + std::exp(-x));
    case Activation::Relu: return std::max(0.0, x);
    default: return x;
  }
}

}  // namespace longlive::cpu

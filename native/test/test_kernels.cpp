// The CPU kernels against oracles in double precision: every instruction set this machine has, random inputs, odd and tiny
// shapes, one to three threads (whose results must agree bit by bit).
//
// The oracle rounds operands to bf16 or int8 exactly as the kernels promise to, so that each precision is held to the error
// of F32 accumulation; what the rounding itself costs is measured where models are compared. An error is
// max |got - want| / max |want|.
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

using namespace longlive;
using namespace longlive::cpu;

namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

Floats randomFloats(size_t n, uint32_t seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  Floats v(n);
  for (float& x : v) x = normal(generator);
  return v;
}

float fromBits(bf16 b) {
  const uint32_t bits = static_cast<uint32_t>(b) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

bf16 rounded(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<bf16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

double asBf16(double x) { return fromBits(rounded(static_cast<float>(x))); }

std::vector<bf16> toBits(const Floats& v) {
  std::vector<bf16> out(v.size());
  std::transform(v.begin(), v.end(), out.begin(), rounded);
  return out;
}

template <class T>
double relativeError(const std::vector<T>& got, const Doubles& want) {
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

std::vector<Isa> levels() {
  std::vector<Isa> all;
  for (Isa isa : {Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Vnni, Isa::Avx512Bf16, Isa::Amx}) {
    if (isa <= detectIsa()) all.push_back(isa);
  }
  return all;
}

// Levels that share the code of the level below need no second test.
bool hasOwnVectorOps(Isa isa) {
  return isa == Isa::Portable || &vectorOps(isa) != &vectorOps(static_cast<Isa>(static_cast<int>(isa) - 1));
}

const char* nameOf(Precision p) { return p == Precision::FP32 ? "fp32" : p == Precision::BF16 ? "bf16" : "int8"; }

double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

double activated(double x, Activation a) {
  switch (a) {
    case Activation::GeluTanh: return gelu(x);
    case Activation::Silu: return x / (1 + std::exp(-x));
    case Activation::Relu: return std::max(0.0, x);
    default: return x;
  }
}

// -- linear -----------------------------------------------------------------------------------------------------------------

// The operand that a precision really multiplies.
Doubles operand(const Floats& v, int64_t rows, int64_t width, Precision p) {
  Doubles out(v.begin(), v.end());
  for (int64_t r = 0; r < rows; ++r) {
    double* row = out.data() + r * width;
    if (p == Precision::BF16) std::transform(row, row + width, row, asBf16);
    if (p == Precision::INT8) {
      float highest = 0;
      for (int64_t k = 0; k < width; ++k) highest = std::max(highest, std::abs(v[r * width + k]));
      const float scale = highest / 127.0f, inverse = highest > 0 ? 127.0f / highest : 0.0f;
      for (int64_t k = 0; k < width; ++k) row[k] = scale * std::nearbyint(row[k] * static_cast<double>(inverse));
    }
  }
  return out;
}

struct LinearCase {
  int64_t rows, in, out;
  Activation activation = Activation::None;
  bool bias = true, multiply = false, residual = false;
  int64_t gateRows = 0;
  bool outBf16 = false;
};

Doubles linearOracle(const LinearCase& t, const Doubles& x, const Doubles& w, const Floats& bias, const Floats& multiply,
                     const Floats& residual, const Floats& gate) {
  Doubles out(static_cast<size_t>(t.rows * t.out));
  for (int64_t m = 0; m < t.rows; ++m) {
    for (int64_t n = 0; n < t.out; ++n) {
      double sum = std::inner_product(&x[m * t.in], &x[m * t.in] + t.in, &w[n * t.in], 0.0);
      const size_t i = static_cast<size_t>(m * t.out + n);
      sum = activated(sum + (t.bias ? bias[n] : 0), t.activation);
      if (t.multiply) sum *= multiply[i];
      if (t.gateRows) sum *= gate[m / (t.rows / t.gateRows) * t.out + n];
      if (t.residual) sum += residual[i];
      out[i] = sum;
    }
  }
  return out;
}

void testLinear() {
  const std::vector<LinearCase> cases = {
      {1, 1, 1},
      {3, 5, 7},
      {1, 64, 192},
      {2, 256, 1152, Activation::Silu},
      {12, 64, 64},
      {13, 17, 33, Activation::Relu},
      {25, 192, 96, Activation::None, false},
      {33, 100, 50, Activation::GeluTanh, true, true},
      {36, 200, 31, Activation::None, true, false, true},
      {42, 192, 192, Activation::None, true, false, true, 3},
      {97, 576, 192, Activation::None, true, false, true, 1},
      {48, 192, 576, Activation::GeluTanh},
      {60, 300, 80, Activation::Silu, true, true, true, 2},
      {252, 192, 65, Activation::None, true, false, false, 0, true},
      {31, 1536, 64},
      {5, 2200, 40, Activation::None, true, false, false, 4 + 1},
  };
  for (Isa isa : levels()) {
    for (Precision p : {Precision::FP32, Precision::BF16, Precision::INT8}) {
      Worst worst;
      for (const LinearCase& t : cases) {
        const std::string where = std::to_string(t.rows) + "x" + std::to_string(t.in) + "x" + std::to_string(t.out);
        const Floats x = randomFloats(t.rows * t.in, 1), w = randomFloats(t.out * t.in, 2, 0.1f), b = randomFloats(t.out, 3);
        const Floats multiply = randomFloats(t.rows * t.out, 4), residual = randomFloats(t.rows * t.out, 5);
        const Floats gate = randomFloats(std::max<int64_t>(t.gateRows, 1) * t.out, 6);
        const Doubles want = linearOracle(t, operand(x, t.rows, t.in, p), operand(w, t.out, t.in, p), b, multiply, residual, gate);
        Floats first;
        for (int threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          Context c(pool, isa);
          const auto packed = packLinear(c, {w.data(), DType::F32, t.out, t.in, {}, "w"}, t.bias ? b.data() : nullptr, p);
          Floats out = residual;  // in place, as the model uses it
          LinearEpilogue e;
          e.activation = t.activation;
          if (t.multiply) e.multiply = multiply.data();
          if (t.residual) e.residual = out.data();
          if (t.gateRows) e.gate = gate.data(), e.gateRows = t.gateRows;
          if (t.outBf16) {
            std::vector<bf16> bits(out.size());
            e.outType = DType::BF16;
            linear(c, bits.data(), x.data(), t.rows, *packed, e);
            std::transform(bits.begin(), bits.end(), out.begin(), fromBits);
          } else {
            linear(c, out.data(), x.data(), t.rows, *packed, e);
          }
          if (threads == 1) {
            first = out;
            // A rounded output is off by half a bf16 step of its own size: taken out before comparing.
            worst.add(std::max(0.0, relativeError(out, want) - (t.outBf16 ? 0x1p-8 : 0.0)), where);
          } else {
            CHECK(std::memcmp(first.data(), out.data(), out.size() * 4) == 0);
          }
        }
      }
      worst.check(std::string("linear ") + gemmKernel(isa, p).name + " (" + nameOf(isa) + ", " + nameOf(p) + ")", 2e-6);
    }
  }
}

// Rows as a package would store them: src/import/quantise.ts and docs/model-package.md.
struct Quantised {
  std::vector<int8_t> bytes;
  Floats scale;
};

Quantised quantised(const Floats& w, int64_t out, int64_t in) {
  Quantised q{std::vector<int8_t>(w.size()), Floats(static_cast<size_t>(out))};
  for (int64_t r = 0; r < out; ++r) {
    float highest = 0;
    for (int64_t k = 0; k < in; ++k) highest = std::max(highest, std::fabs(w[r * in + k]));
    const float inverse = highest > 0 ? 127.0f / highest : 0.0f;
    q.scale[static_cast<size_t>(r)] = highest / 127.0f;
    for (int64_t k = 0; k < in; ++k) q.bytes[r * in + k] = static_cast<int8_t>(std::nearbyint(static_cast<double>(w[r * in + k]) * inverse));
  }
  return q;
}

bool sameBytes(const AlignedBuffer& a, const AlignedBuffer& b) {
  return a.bytes() == b.bytes() && (a.bytes() == 0 || std::memcmp(a.as<char>(), b.as<char>(), a.bytes()) == 0);
}

void testPacking() {
  for (Isa isa : levels()) {
    ThreadPool pool(2);
    Context c(pool, isa);
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {33, 7}, {40, 130}, {64, 96}, {31, 1025}}) {
      Floats w = randomFloats(static_cast<size_t>(out * in), 9);
      std::fill(w.begin(), w.begin() + in, 0.0f);  // a row of zeros
      for (float& x : w) x = fromBits(rounded(x));
      const std::vector<bf16> brain = toBits(w);
      const Quantised q = quantised(w, out, in);
      // One byte in front of the data leaves nothing aligned.
      const auto shifted = [](const void* data, size_t n) {
        std::vector<char> bytes(n + 1);
        std::memcpy(bytes.data() + 1, data, n);
        return bytes;
      };
      const auto floats = shifted(w.data(), w.size() * 4), brains = shifted(brain.data(), brain.size() * 2);
      for (Precision p : {Precision::FP32, Precision::BF16, Precision::INT8}) {
        const auto want = packLinear(c, {w.data(), DType::F32, out, in, {}, "w"}, nullptr, p);
        for (const StoredMatrix& m : {StoredMatrix{floats.data() + 1, DType::F32, out, in, {}, "w"}, StoredMatrix{brain.data(), DType::BF16, out, in, {}, "w"},
                                      StoredMatrix{brains.data() + 1, DType::BF16, out, in, {}, "w"}}) {
          const auto got = packLinear(c, m, nullptr, p);
          CHECK(sameBytes(got->panels, want->panels) && sameBytes(got->scale, want->scale) && sameBytes(got->sum, want->sum));
        }
        if (p != Precision::INT8) continue;
        const auto stored = packLinear(c, {q.bytes.data(), DType::I8, out, in, q.scale, "w"}, nullptr, p);
        CHECK(sameBytes(stored->panels, want->panels) && sameBytes(stored->scale, want->scale) && sameBytes(stored->sum, want->sum));
      }
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        for (Precision p : {Precision::FP32, Precision::BF16, Precision::INT8}) {
          Floats broken = w;
          broken.back() = bad;
          CHECK_THROWS(packLinear(c, {broken.data(), DType::F32, out, in, {}, "w"}, nullptr, p), Error);
          std::vector<bf16> bits = brain;
          bits.back() = static_cast<bf16>(std::isnan(bad) ? 0x7fc1 : bad > 0 ? 0x7f80 : 0xff80);
          CHECK_THROWS(packLinear(c, {bits.data(), DType::BF16, out, in, {}, "w"}, nullptr, p), Error);
        }
      }
    }
  }
}

void testWidenedLinear() {
  for (Isa isa : levels()) {
    Worst worst;
    for (const LinearCase& t : {LinearCase{1, 1, 1}, {3, 5, 7}, {13, 17, 33, Activation::Relu}, {97, 576, 192, Activation::None, true, false, true, 1},
                                {48, 192, 576, Activation::GeluTanh, false, true}, {31, 1536, 64}, {5, 2200, 40}}) {
      const Floats x = randomFloats(t.rows * t.in, 1), w = randomFloats(t.out * t.in, 2, 0.1f), b = randomFloats(t.out, 3);
      const Floats multiply = randomFloats(t.rows * t.out, 4), residual = randomFloats(t.rows * t.out, 5);
      const Floats gate = randomFloats(std::max<int64_t>(t.gateRows, 1) * t.out, 6);
      const Quantised q = quantised(w, t.out, t.in);
      Doubles weight(w.size());
      for (size_t i = 0; i < w.size(); ++i) weight[i] = static_cast<double>(q.bytes[i]) * q.scale[i / static_cast<size_t>(t.in)];
      const Doubles want = linearOracle(t, operand(x, t.rows, t.in, Precision::BF16), weight, b, multiply, residual, gate);
      ThreadPool pool(2);
      Context c(pool, isa);
      const auto packed = packLinear(c, {q.bytes.data(), DType::I8, t.out, t.in, q.scale, "w"}, t.bias ? b.data() : nullptr, Precision::INT8, true);
      CHECK(packed->panels.bytes() < static_cast<size_t>((t.out + 31) / 32 * 32 * ((t.in + 63) / 64 * 64)) + 64);
      Floats out = residual;
      LinearEpilogue e;
      e.activation = t.activation;
      if (t.multiply) e.multiply = multiply.data();
      if (t.residual) e.residual = out.data();
      if (t.gateRows) e.gate = gate.data(), e.gateRows = t.gateRows;
      linear(c, out.data(), x.data(), t.rows, *packed, e);
      worst.add(relativeError(out, want), std::to_string(t.rows) + "x" + std::to_string(t.in) + "x" + std::to_string(t.out));
    }
    worst.check(std::string("linear, widened int8 weights (") + nameOf(isa) + ")", 2e-6);
  }
}

// -- attention --------------------------------------------------------------------------------------------------------------

struct AttentionCase {
  int64_t queries, heads, headDim;
  std::vector<KeyRange> visible;
  bool bias = false;
  float lastBias = 0;
};

int64_t keyCount(const AttentionCase& t) {
  int64_t n = 0;
  for (const KeyRange& r : t.visible) n += r.count;
  return n;
}

Doubles attentionOracle(const AttentionCase& t, const Doubles& q, const Doubles& k, const Doubles& v, const Floats& bias,
                        double scale) {
  const int64_t width = t.heads * t.headDim, keys = keyCount(t);
  std::vector<int64_t> rows;
  for (const KeyRange& r : t.visible)
    for (int64_t i = 0; i < r.count; ++i) rows.push_back(r.begin + i);
  Doubles out(static_cast<size_t>(t.queries * width)), p(static_cast<size_t>(keys));
  for (int64_t h = 0; h < t.heads; ++h) {
    for (int64_t i = 0; i < t.queries; ++i) {
      double highest = -INFINITY, sum = 0;
      for (int64_t j = 0; j < keys; ++j) {
        const double* a = &q[i * width + h * t.headDim];
        p[j] = scale * std::inner_product(a, a + t.headDim, &k[rows[j] * width + h * t.headDim], 0.0);
        if (t.bias) p[j] += bias[h * (t.queries + keys - 1) + j - i + t.queries - 1];
        if (j == keys - 1) p[j] += t.lastBias;
        highest = std::max(highest, p[j]);
      }
      for (double& x : p) sum += x = std::exp(x - highest);
      for (int64_t d = 0; d < t.headDim; ++d) {
        double acc = 0;
        for (int64_t j = 0; j < keys; ++j) acc += p[j] * v[rows[j] * width + h * t.headDim + d];
        out[i * width + h * t.headDim + d] = acc / sum;
      }
    }
  }
  return out;
}

void testAttention() {
  const std::vector<AttentionCase> cases = {
      {1, 1, 1, {{0, 1}}},
      {2, 1, 3, {{1, 5}}},
      {5, 2, 24, {{0, 7}, {9, 4}}},
      {13, 3, 64, {{0, 40}}},
      {84, 3, 64, {{168, 84}, {0, 84}, {84, 84}}},
      {100, 2, 48, {{0, 300}, {310, 7}}, false, 2.5f},
      {17, 4, 64, {{0, 17}}, true},
      {20, 2, 32, {{0, 257}}, true},
      {100, 2, 64, {{0, 40}}, true},
      {30, 1, 384, {{0, 70}}},
      {12, 2, 128, {{3, 513}, {0, 1}}, false, std::log(500.0f)},
      {7, 1, 96, {{0, 256}, {256, 0}, {300, 33}}},
  };
  for (Isa isa : levels()) {
    for (DType type : {DType::F32, DType::BF16}) {
      const bool pairs = type == DType::BF16 && isa >= Isa::Avx512Bf16;
      Worst worst;
      for (const AttentionCase& t : cases) {
        const int64_t width = t.heads * t.headDim, keys = keyCount(t);
        int64_t rows = 0;
        for (const KeyRange& r : t.visible) rows = std::max(rows, r.begin + r.count);
        const float scale = 1.0f / std::sqrt(static_cast<float>(t.headDim));
        const Floats q = randomFloats(t.queries * width, 1, 2.0f), k = randomFloats(rows * width, 2);
        const Floats v = randomFloats(rows * width, 3), bias = randomFloats(t.heads * (t.queries + keys - 1), 4);
        const std::vector<bf16> kBits = toBits(k), vBits = toBits(v);
        Doubles qd(q.begin(), q.end()), kd(k.begin(), k.end()), vd(v.begin(), v.end());
        if (pairs) std::transform(qd.begin(), qd.end(), qd.begin(), asBf16);
        if (type == DType::BF16) {
          std::transform(kd.begin(), kd.end(), kd.begin(), asBf16);
          std::transform(vd.begin(), vd.end(), vd.begin(), asBf16);
        }
        const Doubles want = attentionOracle(t, qd, kd, vd, bias, scale);
        Floats first;
        for (int threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          Context c(pool, isa);
          reserveAttention(c, t.headDim);
          Floats out(q.size());
          const bool f32 = type == DType::F32;
          attention(c, {out.data(), q.data(), f32 ? static_cast<const void*>(k.data()) : kBits.data(),
                        f32 ? static_cast<const void*>(v.data()) : vBits.data(), type, t.visible, t.queries, t.heads, t.headDim,
                        scale, t.bias ? bias.data() : nullptr, t.lastBias});
          if (threads == 1) {
            first = out;
            worst.add(relativeError(out, want),
                      std::to_string(t.queries) + "x" + std::to_string(t.heads) + "x" + std::to_string(t.headDim) + ", " +
                          std::to_string(keys) + " keys");
          } else {
            CHECK(std::memcmp(first.data(), out.data(), out.size() * 4) == 0);
          }
        }
      }
      // Rounding the probabilities to bf16 is part of the pairs variant and not of the oracle: 2^-9 each.
      worst.check(std::string("attention ") + nameOf(isa) + (type == DType::F32 ? ", F32 keys" : ", BF16 keys") +
                      (pairs ? " as pairs" : ""),
                  pairs ? 4e-3 : 2e-6);
    }
  }
  ThreadPool pool(1);
  Context c(pool, Isa::Portable);
  float one = 1;
  const KeyRange none{0, 0};
  CHECK_THROWS(attention(c, {&one, &one, &one, &one, DType::F32, {&none, 1}, 1, 1, 1, 1.0f}), std::logic_error);
}

// -- normalisation and rotation ---------------------------------------------------------------------------------------------

void testNorms() {
  constexpr float eps = 1e-6f;
  for (Isa isa : levels()) {
    if (!hasOwnVectorOps(isa)) continue;
    ThreadPool pool(2);
    Context c(pool, isa);
    Worst layer, rms, rotated;
    for (const auto& [frames, perFrame, width] : std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {3, 2, 7}, {3, 84, 192}, {2, 5, 1536}}) {
      const int64_t rows = frames * perFrame;
      const std::string where = std::to_string(rows) + "x" + std::to_string(width);
      Floats x = randomFloats(rows * width, 1, 3.0f);
      for (float& value : x) value += 5.0f;  // a mean to take away
      const Floats scale = randomFloats(frames * width, 2), shift = randomFloats(frames * width, 3);
      Doubles modulated(x.size()), affine(x.size()), normal(x.size());
      for (int64_t r = 0; r < rows; ++r) {
        double mean = 0, variance = 0, square = 0;
        for (int64_t j = 0; j < width; ++j) mean += x[r * width + j];
        mean /= width;
        for (int64_t j = 0; j < width; ++j) {
          variance += (x[r * width + j] - mean) * (x[r * width + j] - mean);
          square += static_cast<double>(x[r * width + j]) * x[r * width + j];
        }
        for (int64_t j = 0; j < width; ++j) {
          const size_t i = static_cast<size_t>(r * width + j), f = static_cast<size_t>(r / perFrame * width + j);
          const double n = (x[i] - mean) / std::sqrt(variance / width + eps);
          modulated[i] = n * (1.0 + scale[f]) + shift[f];
          affine[i] = n * scale[j] + shift[j];
          normal[i] = x[i] / std::sqrt(square / width + eps) * scale[j];
        }
      }
      Floats out(x.size());
      layerNormModulate(c, out.data(), x.data(), rows, width, scale.data(), shift.data(), frames, eps);
      layer.add(relativeError(out, modulated), where);
      out = x;
      layerNormAffine(c, out.data(), out.data(), rows, width, scale.data(), shift.data(), eps);
      layer.add(relativeError(out, affine), where);
      out = x;
      rmsNorm(c, out.data(), DType::F32, out.data(), rows, width, scale.data(), eps);
      rms.add(relativeError(out, normal), where);
    }
    for (const auto& [heads, t, h, w] : std::vector<std::array<int64_t, 4>>{{1, 1, 0, 0}, {2, 4, 4, 4}, {3, 12, 10, 10}, {12, 22, 21, 21}}) {
      const int64_t gridHeight = 3, gridWidth = 5, pairs = t + h + w, width = heads * pairs * 2;
      const std::vector<int32_t> position = {7, 2};
      const int64_t rows = 2 * gridHeight * gridWidth;
      const std::string where = std::to_string(heads) + " heads of " + std::to_string(2 * pairs);
      const auto table = [](int64_t positions, int64_t count, double base) {
        Floats cs;
        for (int64_t p = 0; p < positions; ++p)
          for (int64_t i = 0; i < count; ++i) {
            const double angle = static_cast<double>(p) * std::pow(base, -static_cast<double>(i) / static_cast<double>(count));
            cs.push_back(static_cast<float>(std::cos(angle)));
            cs.push_back(static_cast<float>(std::sin(angle)));
          }
        return cs;
      };
      const Floats temporal = table(8, t, 1e4), row = table(gridHeight, h, 1e3), column = table(gridWidth, w, 1e2);
      const RopeShape shape{temporal.data(), row.data(), column.data(), t, h, w, gridHeight, gridWidth, heads, position};
      const Floats x = randomFloats(rows * width, 1), weight = randomFloats(width, 2);
      Doubles plain(x.size()), normalised(x.size());
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t col = r % gridWidth, line = r / gridWidth % gridHeight, frame = r / (gridWidth * gridHeight);
        double square = 0;
        for (int64_t j = 0; j < width; ++j) square += static_cast<double>(x[r * width + j]) * x[r * width + j];
        const double inverse = 1 / std::sqrt(square / static_cast<double>(width) + eps);
        for (int64_t j = 0; j < width; j += 2) {
          const int64_t pair = j / 2 % pairs;
          const float* cs = pair < t       ? &temporal[(position[frame] * t + pair) * 2]
                            : pair < t + h ? &row[(line * h + pair - t) * 2]
                                           : &column[(col * w + pair - t - h) * 2];
          const size_t i = static_cast<size_t>(r * width + j);
          const double re = x[i], im = x[i + 1], nre = re * inverse * weight[j], nim = im * inverse * weight[j + 1];
          plain[i] = re * cs[0] - im * cs[1];
          plain[i + 1] = re * cs[1] + im * cs[0];
          normalised[i] = nre * cs[0] - nim * cs[1];
          normalised[i + 1] = nre * cs[1] + nim * cs[0];
        }
      }
      Floats out = x;
      rope(c, out.data(), DType::F32, out.data(), DType::F32, rows, width, shape);
      rotated.add(relativeError(out, plain), where);
      out = x;
      rmsNormRope(c, out.data(), DType::F32, out.data(), rows, width, weight.data(), eps, shape);
      rotated.add(relativeError(out, normalised), where);
      std::vector<bf16> bits(x.size());
      rmsNormRope(c, bits.data(), DType::BF16, x.data(), rows, width, weight.data(), eps, shape);
      CHECK(bits == toBits(out));
      rmsNorm(c, out.data(), DType::F32, x.data(), rows, width, weight.data(), eps);
      rmsNorm(c, bits.data(), DType::BF16, x.data(), rows, width, weight.data(), eps);
      CHECK(bits == toBits(out));
      std::vector<bf16> in = toBits(x), same(in.size());
      rope(c, same.data(), DType::BF16, in.data(), DType::BF16, rows, width, shape);
      std::transform(in.begin(), in.end(), out.begin(), fromBits);
      rope(c, out.data(), DType::F32, out.data(), DType::F32, rows, width, shape);
      CHECK(same == toBits(out));
      CHECK_THROWS(rope(c, out.data(), DType::F32, x.data(), DType::F32, rows + 1, width, shape), std::logic_error);
    }
    layer.check(std::string("layerNorm ") + nameOf(isa), 1e-6);
    rms.check(std::string("rmsNorm ") + nameOf(isa), 1e-6);
    rotated.check(std::string("rotation ") + nameOf(isa), 1e-6);
  }
}

// -- elementwise ------------------------------------------------------------------------------------------------------------

void testElementwise() {
  for (Isa isa : levels()) {
    if (!hasOwnVectorOps(isa)) continue;
    ThreadPool pool(2);
    Context c(pool, isa);
    // Relative error of each single value, as the exponential's argument allows: one rounding of u (|u| < 30) costs 30 ulp.
    Worst relative, absolute;
    Floats x;
    for (float v = -12.0f; v <= 12.0f; v += 0.00137f) x.push_back(v);
    Floats out(x.size());
    for (Activation a : {Activation::None, Activation::GeluTanh, Activation::Silu, Activation::Relu}) {
      activate(c, out.data(), x.data(), static_cast<int64_t>(x.size()), a);
      for (size_t i = 0; i < x.size(); ++i) {
        const double want = activated(x[i], a), difference = std::abs(out[i] - want);
        absolute.add(difference / std::max(1.0, std::abs(want)), std::to_string(x[i]));
        if (std::abs(x[i]) < 2) relative.add(want == 0 ? std::abs(out[i]) : difference / std::abs(want), std::to_string(x[i]));
      }
    }
    relative.check(std::string("activations, |x| < 2, relative, ") + nameOf(isa), 1e-6);
    absolute.check(std::string("activations, |x| < 12, ") + nameOf(isa), 5e-7);

    // The exponential itself, through a softmax of one row: p[i] = e^(x[i] - max).
    Worst exponential;
    for (float v = -87.0f; v <= 0.0f; v += 0.0173f) {
      alignas(64) float logits[32] = {v, 0.0f};
      float maximum = -INFINITY, sum = 0;
      c.vector.softmaxRow({logits, 2, 32, 1.0f, nullptr, 0.0f, &maximum, &sum, nullptr});
      exponential.add(std::abs(logits[0] / std::exp(static_cast<double>(v)) - 1), std::to_string(v));
      CHECK(logits[2] == 0.0f && logits[31] == 0.0f);
    }
    exponential.check(std::string("exp, relative, ") + nameOf(isa), 1e-6);

    // Conversions are exact, NaN and infinity included.
    Floats special = randomFloats(1001, 7, 1e3f);
    special[3] = INFINITY, special[4] = -INFINITY, special[5] = NAN, special[6] = 3.4e38f, special[7] = -0.0f;
    special[8] = 1.00390625f;  // half way: to even
    std::vector<bf16> bits(special.size());
    cpu::toBf16(c, bits.data(), special.data(), static_cast<int64_t>(special.size()));
    for (size_t i = 0; i < special.size(); ++i) {
      if (std::isnan(special[i])) CHECK(std::isnan(fromBits(bits[i])));
      else CHECK(bits[i] == rounded(special[i]));
    }
    Floats back(special.size());
    cpu::fromBf16(c, back.data(), bits.data(), static_cast<int64_t>(bits.size()));
    for (size_t i = 0; i < back.size(); ++i) CHECK(std::isnan(back[i]) || back[i] == fromBits(bits[i]));

    const Floats a = randomFloats(77 * 33, 1), b = randomFloats(33, 2);
    Floats sum = a;
    add(c, sum.data(), sum.data(), b.data(), static_cast<int64_t>(a.size()), 33);
    for (size_t i = 0; i < a.size(); ++i) CHECK(sum[i] == a[i] + b[i % 33]);
    axpby(c, sum.data(), 0.25f, a.data(), 2.0f, a.data(), static_cast<int64_t>(a.size()));
    for (size_t i = 0; i < a.size(); ++i) CHECK(sum[i] == 0.25f * a[i] + 2.0f * a[i]);
  }
}

void testGaussian() {
  const int64_t n = 400001;
  Floats one(n), two(n), other(n);
  {
    ThreadPool pool(1);
    Context c(pool, Isa::Portable);
    gaussian(c, one.data(), n, 0x123456789abcdef0ull, 5, 2);
    gaussian(c, other.data(), n, 0x123456789abcdef0ull, 5, 3);
  }
  {
    ThreadPool pool(3);
    Context c(pool, detectIsa());
    gaussian(c, two.data(), n, 0x123456789abcdef0ull, 5, 2);
  }
  CHECK(one == two);
  CHECK(one != other);
  double mean = 0, square = 0, cross = 0, fourth = 0;
  for (int64_t i = 0; i < n; ++i) {
    mean += one[i];
    square += static_cast<double>(one[i]) * one[i];
    fourth += std::pow(one[i], 4);
    cross += static_cast<double>(one[i]) * other[i];
  }
  std::printf("  gaussian: mean %.4f, variance %.4f, kurtosis %.3f, correlation of two steps %.4f\n", mean / n, square / n,
              fourth / n, cross / n);
  CHECK(std::abs(mean / n) < 0.008 && std::abs(square / n - 1) < 0.01 && std::abs(fourth / n - 3) < 0.08);
  CHECK(std::abs(cross / n) < 0.008);

  // Against the definition, with the C library's functions: Philox4x32-10 of counter (0, 0, block, step).
  const auto philox = [](uint32_t (&c)[4], uint32_t k0, uint32_t k1) {
    for (int i = 0; i < 10; ++i, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      const uint64_t p = 0xD2511F53ull * c[0], q = 0xCD9E8D57ull * c[2];
      const uint32_t next[4] = {static_cast<uint32_t>(q >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(q),
                                static_cast<uint32_t>(p >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p)};
      std::memcpy(c, next, sizeof next);
    }
  };
  uint32_t zero[4] = {};  // the known answer of the generator's authors
  philox(zero, 0, 0);
  CHECK(zero[0] == 0x6627e8d5u && zero[1] == 0xe169c58du && zero[2] == 0xbc57ac4cu && zero[3] == 0x9b00dbd8u);
  double worst = 0;
  for (uint32_t i = 0; i < 20000; ++i) {
    uint32_t r[4] = {i, 0, 5, 2};
    philox(r, 0x9abcdef0u, 0x12345678u);
    for (int pair = 0; pair < 2; ++pair) {
      const double radius = std::sqrt(-2 * std::log((r[2 * pair] + 1.0) * 0x1p-32)), angle = 2 * M_PI * r[2 * pair + 1] * 0x1p-32;
      worst = std::max(worst, std::abs(one[4 * i + 2 * pair] - radius * std::cos(angle)));
      worst = std::max(worst, std::abs(one[4 * i + 2 * pair + 1] - radius * std::sin(angle)));
    }
  }
  std::printf("  gaussian: worst difference from the C library %.1e\n", worst);
  CHECK(worst < 4e-7);
}

// -- threads and detection --------------------------------------------------------------------------------------------------

void testThreadPool() {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (int64_t n = 0; n < 3000; ++n) {
      std::atomic<int64_t> sum{0}, calls{0};
      std::atomic<bool> inRange{true};
      pool.parallelFor(0, n % 41, 1 + n % 3, [&](int64_t begin, int64_t end, int thread) {
        if (thread < 0 || thread >= threads) inRange = false;
        pool.parallelFor(begin, end, 1, [&](int64_t b, int64_t e, int inner) {  // nested: inline, on the same thread
          if (inner != thread) inRange = false;
          for (int64_t i = b; i < e; ++i) sum += i;
        });
        ++calls;
      });
      const int64_t m = n % 41;
      CHECK(sum == m * (m - 1) / 2 && inRange);
      CHECK(calls <= m);
    }
    void* before = pool.scratch(0, 1000);
    CHECK(pool.scratch(0, 500) == before && reinterpret_cast<uintptr_t>(before) % 64 == 0);
  }
}

void testDetection() {
  CHECK(chooseIsa("") == detectIsa());
  CHECK(chooseIsa("portable") == Isa::Portable);
  CHECK_THROWS(chooseIsa("sse9"), Error);
  if (detectIsa() < Isa::Amx) CHECK_THROWS(chooseIsa("amx"), Error);
  std::printf("  %s: %s\n", processorName().c_str(), nameOf(detectIsa()));
}

}  // namespace

TEST("cpu: detection and caps") { testDetection(); }
TEST("cpu: thread pool") { testThreadPool(); }
TEST("cpu: linear layers of every precision") { testLinear(); }
TEST("cpu: weights are packed alike from every type and alignment, and refused when not finite") { testPacking(); }
TEST("cpu: widened int8 weights equal their definition") { testWidenedLinear(); }
TEST("cpu: attention over key ranges") { testAttention(); }
TEST("cpu: norms and rotation") { testNorms(); }
TEST("cpu: activations and conversions") { testElementwise(); }
TEST("cpu: gaussian noise") { testGaussian(); }

// Linear layers on the CPU: products, packing, epilogues.
#include "kernel_oracles.h"

using namespace longlive;
using namespace longlive::cpu;

namespace {

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
      worst.check(std::string("linear ") + gemmKernel(isa, operandOf(isa, p)).name + " (" + nameOf(isa) + ", " + nameOf(p) + ")", 2e-6);
    }
  }
}

// Rows as a package would store them: src/import/quantize.ts and docs/model-package.md.
struct Quantized {
  std::vector<int8_t> bytes;
  Floats scale;
};

Quantized quantized(const Floats& w, int64_t out, int64_t in) {
  Quantized q{std::vector<int8_t>(w.size()), Floats(static_cast<size_t>(out))};
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
      const Quantized q = quantized(w, out, in);
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
      const Quantized q = quantized(w, t.out, t.in);
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

}  // namespace

TEST("cpu: linear layers of every precision") { testLinear(); }
TEST("cpu: weights are packed alike from every type and alignment, and refused when not finite") { testPacking(); }
TEST("cpu: widened int8 weights equal their definition") { testWidenedLinear(); }

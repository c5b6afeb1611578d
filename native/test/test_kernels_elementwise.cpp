// Activations, conversions and noise on the CPU.
#include "kernel_oracles.h"

using namespace longlive;
using namespace longlive::cpu;

namespace {

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

}  // namespace

TEST("cpu: activations and conversions") { testElementwise(); }
TEST("cpu: gaussian noise") { testGaussian(); }

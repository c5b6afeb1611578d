// The limits of the parity program hold for what they are derived from: layers in a row, on the CPU.
#include <random>
#include <vector>

#include "harness.h"
#include "parity_limits.h"

using namespace longlive;
using namespace longlive::parity;

namespace {

// Sixteen linear layers in a row with random weights: the largest difference from F32 over the largest result. `spoilt`: how much larger or smaller
// every other row of the matrices is by mistake.
double chainError(Precision precision, double spoilt = 0) {
  constexpr int64_t kRows = 64, kWidth = 256;
  std::vector<float> results[2];
  for (const bool exact : {true, false}) {
    std::mt19937 generator(3);
    std::normal_distribution<float> normal;
    const auto random = [&](int64_t n, float scale) {
      std::vector<float> v(static_cast<size_t>(n));
      for (float& x : v) x = scale * normal(generator);
      return v;
    };
    BackendOptions options;
    options.precision = exact ? Precision::FP32 : precision;
    const auto b = makeCpuBackend(options);
    const auto storage = b->allocate(2 * kRows * kWidth * 4);
    Tensor x{storage->data, DType::F32, {kRows, kWidth}}, y{static_cast<char*>(storage->data) + x.bytes(), DType::F32, {kRows, kWidth}};
    b->upload(x, random(kRows * kWidth, 1).data());
    for (int i = 0; i < static_cast<int>(kLinearsInARow); ++i) {
      std::vector<float> w = random(kWidth * kWidth, 1.0f / 16);
      for (size_t j = 0; j < w.size() && !exact; ++j) w[j] *= static_cast<float>(1 + (j / kWidth % 2 ? spoilt : -spoilt));
      b->linear(y, x, *b->prepareLinear(w.data(), nullptr, kWidth, kWidth));
      std::swap(x, y);
    }
    results[exact].resize(kRows * kWidth);
    b->download(results[exact].data(), x);
  }
  double difference = 0, largest = 0;
  for (size_t i = 0; i < results[0].size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(results[0][i]) - results[1][i]));
    largest = std::max(largest, std::abs(static_cast<double>(results[1][i])));
  }
  return difference / largest;
}

}  // namespace

TEST("parity limits: products in a row err as much as the format says, and a break shows") {
  const auto own = [](Precision p) { return std::sqrt(kLinearsInARow) * productError(p); };
  const double int8 = chainError(Precision::INT8), bf16 = chainError(Precision::BF16);
  CHECK(int8 > 0.4 * own(Precision::INT8) && int8 < 1.3 * own(Precision::INT8));
  CHECK(bf16 > 0.4 * own(Precision::BF16) && bf16 < 1.3 * own(Precision::BF16));
  CHECK(int8 < limitFor(Precision::INT8, AttentionArithmetic::Full) && bf16 < limitFor(Precision::BF16, AttentionArithmetic::Full));
  CHECK(chainError(Precision::INT8, 0.03) > limitFor(Precision::INT8, AttentionArithmetic::Full));
}

TEST("parity limits: what takes more roundings may err more, and nothing may err without end") {
  const auto full = [](Precision p) { return limitFor(p, AttentionArithmetic::Full); };
  const auto attention = [](Precision p) { return limitFor(p, AttentionArithmetic::Int8); };
  CHECK(full(Precision::FP32) == 1e-4 && full(Precision::BF16) == 3e-2);
  CHECK(full(Precision::BF16) < full(Precision::INT8) && full(Precision::INT8) < full(Precision::FP8));
  CHECK(full(Precision::INT8) < attention(Precision::INT8) && attention(Precision::FP8) < 0.16);
}

// The parity tool's own reading of recorded draws: nothing behind their end.
#include <numeric>

#include "harness.h"
#include "recorded_noise.h"

using namespace longlive;

TEST("recorded noise: blocks of different lengths follow each other and come again, and a record that ends early is said") {
  std::vector<float> draws(7 * 4);  // a first block of one frame, two of three
  std::iota(draws.begin(), draws.end(), 0.0f);
  const auto backend = makeCpuBackend({});
  parity::RecordedNoise noise(draws, [](int64_t, int64_t) { return std::vector<float>(4); });
  const auto firstOf = [&](int64_t block, int64_t frames) {
    std::vector<float> got(static_cast<size_t>(frames * 4));
    noise.fill(*backend, {got.data(), DType::F32, {frames, 4}}, block, 0);
    return got.front();
  };
  CHECK(firstOf(0, 1) == 0 && firstOf(1, 3) == 4 && firstOf(1, 3) == 4 && firstOf(2, 3) == 16);
  CHECK(firstOf(0, 1) == 0 && firstOf(2, 3) == 16 && firstOf(1, 3) == 4);  // back, and on again
  CHECK_THROWS(firstOf(3, 3), Error);
  CHECK_THROWS(firstOf(5, 1), Error);  // nobody knows where it begins
  CHECK_THROWS(firstOf(1, 1), Error);  // it had three frames
  std::vector<float> more(12);
  CHECK_THROWS(noise.fill(*backend, {more.data(), DType::F32, {3, 4}}, 2, 1), Error);  // a step's draws are of another size
}

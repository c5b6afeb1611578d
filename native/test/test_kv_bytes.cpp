// 8-bit keys and values: the rounding, and sessions that keep them so.
#include <bit>
#include <cmath>
#include <cstdlib>
#include <random>

#include "harness.h"
#include "longlive/engine.h"
#include "ops/cpu/kernels.h"
#include "synthetic_package.h"

using namespace longlive;
using longlive::test::SyntheticPackage;

namespace {

std::vector<uint8_t> film(const SyntheticPackage& package, KvStorage kv, RopeMode rope, int threads, size_t* memory = nullptr) {
  LoadOptions load;
  load.directory = package.directory, load.precision = Precision::FP32, load.threads = threads, load.kv = kv;
  const auto model = Model::load(load);
  SessionOptions options;
  options.seed = 3, options.width = 64, options.height = 48, options.rope = rope;
  const auto session = model->createSession(options);
  if (memory) *memory = session->memoryBytes();
  std::vector<uint8_t> all;
  for (int block = 0; block < 7; ++block) {
    if (block % 3 == 0) session->setPrompt(*model->encodePrompt(std::vector<int32_t>{3, 4 + block, 1}), RecacheMode::Recache);
    for (Step step = session->step(); step.kind != Step::Kind::Context; step = session->step()) {
      if (step.kind == Step::Kind::Frames) all.insert(all.end(), step.frames.i420.begin(), step.frames.i420.end());
    }
  }
  return all;
}

double psnr(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.size()) / std::max(sum, 1e-9));
}

}  // namespace

TEST("kv bytes: every value is within half a step of its part's scale, zeros stay zeros") {
  constexpr int64_t rows = 70, width = 192, groups = 3, part = width / groups;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> in(rows * width), out(in.size()), scales(rows * groups);
  for (size_t i = 0; i < in.size(); ++i) in[i] = normal(random) * (i / part % 7 == 0 ? 100.0f : 0.01f);
  std::fill_n(in.begin(), part, 0.0f);
  std::vector<int8_t> bytes(in.size());
  std::vector<cpu::bf16> half(in.size());
  cpu::ThreadPool pool(2);
  cpu::Context c(pool, cpu::chooseIsa(""));
  cpu::toBytes(c, bytes.data(), scales.data(), in.data(), rows, width, groups);
  cpu::fromBytes(c, out.data(), DType::F32, bytes.data(), scales.data(), rows, width, groups);
  cpu::fromBytes(c, half.data(), DType::BF16, bytes.data(), scales.data(), rows, width, groups);
  for (size_t i = 0; i < in.size(); ++i) {
    const float scale = scales[i / part];
    CHECK(std::abs(out[i] - in[i]) <= 0.501f * scale);
    CHECK(std::abs(bytes[i]) <= 127);
    const uint32_t bits = uint32_t{half[i]} << 16;
    CHECK(std::abs(std::bit_cast<float>(bits) - out[i]) <= std::abs(out[i]) / 256);
  }
  for (int64_t i = 0; i < part; ++i) CHECK(out[static_cast<size_t>(i)] == 0);
}

TEST("kv bytes: a session keeps close to the full cache, in less memory, whatever the threads") {
  const SyntheticPackage package("kv-bytes");
  for (const RopeMode rope : {RopeMode::Absolute, RopeMode::Relative}) {
    size_t full = 0, small = 0;
    const auto exact = film(package, KvStorage::Full, rope, 1, &full);
    const auto rounded = film(package, KvStorage::Int8, rope, 1, &small);
    std::printf("  PSNR to the full cache, %s positions: %.1f dB; %zu and %zu bytes\n", rope == RopeMode::Absolute ? "absolute" : "relative",
                psnr(exact, rounded), full, small);
    CHECK(rounded != exact);
    CHECK(psnr(exact, rounded) > 40);
    CHECK(rounded == film(package, KvStorage::Int8, rope, 2));
  }
}

TEST("kv bytes: a checkpoint goes on, and other devices refuse") {
  const SyntheticPackage package("kv-bytes-checkpoint");
  LoadOptions load;
  load.directory = package.directory, load.precision = Precision::BF16, load.threads = 1, load.kv = KvStorage::Int8;
  const auto model = Model::load(load);
  SessionOptions options;
  options.seed = 3, options.width = 64, options.height = 48;
  const auto prompt = model->encodePrompt(std::vector<int32_t>{3, 4, 1});
  const auto session = model->createSession(options);
  session->setPrompt(*prompt, RecacheMode::Recache);
  for (int i = 0; i < 6; ++i) session->step();
  const auto resumed = model->restoreSession(options, session->checkpoint(), *prompt);
  session->setPrompt(*prompt, RecacheMode::Recache);
  for (int i = 0; i < 5; ++i) session->step(), resumed->step();
  CHECK(session->lastRgb() == resumed->lastRgb());

  load.device = DeviceKind::Cuda;
  CHECK_THROWS(Model::load(load), Error);
}

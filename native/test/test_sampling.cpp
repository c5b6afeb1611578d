// Colour conversion and the sampler's fixed numbers.
#include <array>
#include <vector>

#include "harness.h"
#include "model/scheduler.h"
#include "ops.h"
#include "probes.h"

using namespace longlive;

TEST("toI420: BT.709 limited range, chroma averaged over 2 x 2") {
  const auto backend = makeCpuBackend({.precision = Precision::FP32, .threads = 2, .deviceIndex = 0, .isa = ""});
  struct Known { std::array<uint8_t, 3> rgb, yuv; };
  const Known known[] = {{{0, 0, 0}, {16, 128, 128}},   {{255, 255, 255}, {235, 128, 128}}, {{255, 0, 0}, {63, 102, 240}},
                         {{0, 255, 0}, {173, 42, 26}},  {{0, 0, 255}, {32, 240, 118}},      {{128, 128, 128}, {126, 128, 128}}};
  for (const Known& k : known) {
    std::vector<uint8_t> rgb, out(2 * 6 * 4 * 3 / 2);
    for (int i = 0; i < 2 * 6 * 4; ++i) rgb.insert(rgb.end(), k.rgb.begin(), k.rgb.end());
    backend->toI420({out.data(), DType::U8, {2, 36}}, {rgb.data(), DType::U8, {2, 4, 6, 3}});
    for (size_t frame = 0; frame < 2; ++frame) {
      const uint8_t* plane = out.data() + frame * 36;
      CHECK(plane[0] == k.yuv[0] && plane[23] == k.yuv[0]);
      CHECK(plane[24] == k.yuv[1] && plane[29] == k.yuv[1]);
      CHECK(plane[30] == k.yuv[2] && plane[35] == k.yuv[2]);
    }
  }
  // Two black and two white pixels make grey chroma and keep their own luma.
  const std::vector<uint8_t> rgb = {0, 0, 0, 255, 255, 255, 0, 0, 0, 255, 255, 255};
  std::vector<uint8_t> out(6);
  backend->toI420({out.data(), DType::U8, {1, 6}}, {const_cast<uint8_t*>(rgb.data()), DType::U8, {1, 2, 2, 3}});
  CHECK((out == std::vector<uint8_t>{16, 235, 16, 235, 128, 128}));
}

TEST("scheduler: the released steps") {
  const Scheduler s(5.0f);
  const std::vector<int64_t> steps = {1000, 750, 500, 250, 0};
  const auto t = s.denoisingTimesteps(steps, true);
  CHECK(t[0] == 1000.0f && t[1] == 937.5f && t[2] == 833.3333129882812f && t[3] == 625.0f && t[4] == 0.0f);
  CHECK(s.sigmaAt(t[2]) == 0.8333333134651184f);
  CHECK(s.sigmaAt(0) == sigmasOf(s).back());
  CHECK(s.denoisingTimesteps(steps, false)[1] == 750.0f);
}

// How the Hopper convolution cuts its work (ops/cuda/conv_plan.h), without the kernel: the loops of conv_sm90.cu on the processor,
// boxes copied with zeros around the volume, blocks of 8 x 8 pixels multiplied from rows of a box, against the plain definition.
#include <cuda_runtime.h>

#include <cmath>
#include <random>
#include <vector>

#include "../harness.h"
#include "ops/cuda/conv_plan.h"
#include "ops/cuda/weights.h"

using namespace longlive::cuda;

namespace {

using Values = std::vector<float>;

struct Case {
  int frames, older, height, width, channels, columns, kt, kh, kw;
  bool upsample = false;
};

Gather gatherOf(const Case& c) {
  Gather g;
  g.frames = c.frames, g.gridHeight = g.height = c.height, g.gridWidth = g.width = c.width, g.channels = c.channels;
  g.kt = c.kt, g.kh = c.upsample ? 2 : c.kh, g.kw = c.upsample ? 2 : c.kw, g.scale = c.upsample ? 2 : 1;
  g.padTop = (c.kh - 1) / 2, g.padLeft = (c.kw - 1) / 2, g.firstFrame = c.kt - 1, g.olderFrames = c.older;
  return g;
}

struct Volume {
  Values data;
  int frames, height, width, channels;
  float at(int t, int y, int x, int c) const {
    const bool inside = t >= 0 && t < frames && y >= 0 && y < height && x >= 0 && x < width;
    return inside ? data[static_cast<size_t>(((t * height + y) * width + x) * channels + c)] : 0.0f;
  }
};

Volume randomVolume(std::mt19937& random, int frames, const Case& c) {
  Volume v{Values(static_cast<size_t>(frames * c.height * c.width * c.channels)), frames, c.height, c.width, c.channels};
  for (float& x : v.data) x = std::uniform_real_distribution<float>(-1, 1)(random);
  return v;
}

// As the copy engine does it: rows of a chunk of channels, pixel after pixel.
Values copyBox(const Volume& v, const ConvPlan& p, const Gather& g, int channel, int x0, int y0, int frame) {
  Values box;
  for (int y = 0; y < boxHeight(g); ++y)
    for (int x = 0; x < boxWidth(p, g); ++x)
      for (int c = 0; c < p.shape.chunk; ++c) box.push_back(v.at(frame, y0 + y, x0 + x, channel + c));
  CHECK(static_cast<int>(box.size()) * 2 == boxBytes(p, g));
  return box;
}

// Every output, and how often it was written.
struct Result {
  Values values;
  std::vector<int> writes;
};

Result byTiles(const ConvPlan& p, const Gather& g, const Volume& in, const Volume& history, const Values& weights, int stride) {
  const int h = g.scale * g.gridHeight, w = g.scale * g.gridWidth;
  Result r{Values(static_cast<size_t>(p.frames * h * w * p.columns)), std::vector<int>(static_cast<size_t>(p.frames * h * w * p.columns))};
  for (int i = 0; i < p.tiles(); ++i) {
    const ConvTile t = p.tile(i);
    const int blocks = kConvGroups * p.shape.mTiles;
    std::vector<double> sum(static_cast<size_t>(blocks * 64 * p.shape.nTile));
    for (int dt = firstTap(g, t.frame); dt < g.kt; ++dt)
      for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const int channel = chunk * p.shape.chunk, seen = frameSeen(g, t.frame, dt);
        CHECK(seen < in.frames && seen >= -g.olderFrames);
        const Values box = copyBox(seen < 0 ? history : in, p, g, channel, boxX(g, t), boxY(g, t), seen < 0 ? seen + g.olderFrames : seen);
        for (int dy = 0; dy < g.kh; ++dy)
          for (int dx = 0; dx < g.kw; ++dx)
            for (int block = 0; block < blocks; ++block)
              for (int row = 0; row < 64; ++row)
                for (int n = 0; n < p.shape.nTile && t.column + n < p.columns; ++n) {
                  const int group = block / p.shape.mTiles, m = block % p.shape.mTiles;
                  const int at = blockRow(boxWidth(p, g), group, m, dy, dx) + row / 8 * boxWidth(p, g) + row % 8;
                  const float* weight = &weights[static_cast<size_t>((t.phase * p.columns + t.column + n) * stride + depthOf(g, dt, dy, dx, channel))];
                  double& s = sum[static_cast<size_t>((block * 64 + row) * p.shape.nTile + n)];
                  for (int c = 0; c < p.shape.chunk; ++c) s += static_cast<double>(box[static_cast<size_t>(at * p.shape.chunk + c)]) * weight[c];
                }
      }
    for (int block = 0; block < blocks; ++block)
      for (int row = 0; row < 64; ++row)
        for (int n = 0; n < p.shape.nTile && t.column + n < p.columns; ++n) {
          const int y = t.y + block / p.shape.mTiles * kConvBlock + row / 8, x = t.x + block % p.shape.mTiles * kConvBlock + row % 8;
          if (y >= g.gridHeight || x >= g.gridWidth) continue;
          const auto to = static_cast<size_t>(((t.frame * h + g.scale * y + t.phase / 2) * w + g.scale * x + t.phase % 2) * p.columns + t.column + n);
          r.values[to] = static_cast<float>(sum[static_cast<size_t>((block * 64 + row) * p.shape.nTile + n)]), ++r.writes[to];
        }
  }
  return r;
}

float plainly(const Case& c, const Volume& in, const Volume& history, const Values& weight, int t, int y, int x, int o) {
  const int scale = c.upsample ? 2 : 1;
  double sum = 0;
  for (int dt = 0; dt < c.kt; ++dt)
    for (int dy = 0; dy < c.kh; ++dy)
      for (int dx = 0; dx < c.kw; ++dx)
        for (int i = 0; i < c.channels; ++i) {
          const bool transposed = c.kh == 4;
          const int frame = t + dt - (c.kt - 1);
          const int yy = transposed ? y + 1 - dy : y + dy - (c.kh - 1) / 2, xx = transposed ? x + 1 - dx : x + dx - (c.kw - 1) / 2;
          if (yy < 0 || xx < 0 || (transposed && (yy % 2 || xx % 2))) continue;
          const float v = frame < 0 ? history.at(frame + c.older, yy / scale, xx / scale, i) : in.at(frame, yy / scale, xx / scale, i);
          sum += static_cast<double>(v) * weight[static_cast<size_t>((((o * c.channels + i) * c.kt + dt) * c.kh + dy) * c.kw + dx)];
        }
  return static_cast<float>(sum);
}

// Every shape of tile that this convolution can have.
void check(const Case& c) {
  std::mt19937 random(5);
  const Gather g = gatherOf(c);
  const Volume in = randomVolume(random, c.frames, c), history = randomVolume(random, c.older, c);
  Values weight(static_cast<size_t>(c.columns * c.channels * c.kt * c.kh * c.kw));
  for (float& x : weight) x = std::uniform_real_distribution<float>(-1, 1)(random);
  const Values rows = convRows(weight.data(), c.columns, c.channels, c.kt, c.kh, c.kw, c.upsample);
  const int h = g.scale * c.height, w = g.scale * c.width;
  int plans = 0;
  for (const ConvShape& shape : kConvShapes) {
    ConvPlan p;
    if (!fits(p, g, shape, c.columns)) continue;
    ++plans;
    const Result got = byTiles(p, g, in, history, rows, static_cast<int>(g.depth()));
    double worst = 0;
    bool once = true;
    for (int t = 0; t < c.frames; ++t)
      for (int y = 0; y < h; ++y)
        for (int x = 0; x < w; ++x)
          for (int o = 0; o < c.columns; o += 5) {
            const auto at = static_cast<size_t>(((t * h + y) * w + x) * c.columns + o);
            worst = std::max(worst, std::fabs(static_cast<double>(got.values[at]) - plainly(c, in, history, weight, t, y, x, o)));
          }
    for (int n : got.writes) once = once && n == 1;
    CHECK(worst < 1e-3);
    CHECK(once);
  }
  CHECK(plans > 0);
}

}  // namespace

TEST("cuda: tiles, boxes and taps of the Hopper convolution are those of a convolution") {
  check({2, 0, 5, 9, 32, 96, 3, 3, 3});        // without history
  check({2, 2, 17, 9, 64, 64, 3, 3, 3});       // with it, tails on both sides
  check({1, 1, 18, 20, 64, 128, 3, 3, 3});     // with half of it
  check({2, 0, 5, 7, 128, 192, 1, 1, 1});
  check({2, 2, 3, 10, 64, 192, 3, 1, 1});      // in time alone
  check({1, 2, 17, 33, 32, 3, 3, 3, 3});       // to a picture
  check({2, 0, 6, 9, 64, 96, 1, 3, 3, true});  // upsampling
  check({2, 0, 6, 9, 64, 96, 1, 4, 4, true});  // transposed
}

TEST("cuda: the Hopper convolution's stages fit into shared memory, and its choices are the ones that were reasoned") {
  const auto plan = [](int frames, int height, int width, int channels, int columns, int kt, int k, bool upsample = false) {
    const Gather g = gatherOf({frames, 2, height, width, channels, columns, kt, k, k, upsample});
    ConvPlan p{};
    if (!planConv(p, g, columns, 132)) return ConvPlan{};
    CHECK(p.boxStages >= 2 && p.boxStages <= kConvStages && p.weightStages >= 3 && p.weightStages <= kConvStages);
    CHECK(p.boxStages * stageBytes(boxBytes(p, g)) + p.weightStages * stageBytes(weightBytes(p.shape)) <= kConvShared);
    return p;
  };
  const auto is = [](const ConvPlan& p, int chunk, int n, int m) { return p.shape.chunk == chunk && p.shape.nTile == n && p.shape.mTiles == m; };
  CHECK(is(plan(4, 480, 832, 96, 96, 3, 3), 32, 96, 4));
  CHECK(is(plan(4, 480, 832, 64, 64, 3, 3), 64, 64, 4));
  CHECK(is(plan(4, 240, 416, 192, 192, 3, 3), 64, 192, 2));
  CHECK(is(plan(2, 120, 208, 384, 384, 3, 3), 64, 128, 2));
  CHECK(is(plan(1, 60, 104, 384, 384, 3, 3), 64, 192, 1));
  CHECK(is(plan(4, 240, 416, 192, 96, 1, 3, true), 64, 96, 4));
  CHECK(is(plan(4, 480, 832, 96, 3, 3, 3), 32, 8, 4));
  CHECK(is(plan(4, 480, 832, 64, 3, 1, 3), 64, 8, 4));
  CHECK(plan(1, 60, 104, 16, 384, 3, 3).columns == 0);  // too few channels
  CHECK(plan(1, 60, 104, 384, 32, 3, 3).columns == 0);  // no such tile
}

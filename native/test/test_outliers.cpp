// The weights with outliers do what they are there for, as measured on a call of the network, and even random weights do not.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "harness.h"
#include "model/dit.h"
#include "probes.h"
#include "synthetic_package.h"

using namespace longlive;

namespace {

struct Seen {
  double massive = 0;     // the largest channel of the residual stream over the median one, by mean size
  double deviation = 0;   // of logits
  double sink = 0;        // of the last frame's attention: what the first three frames of twelve get
  double largest = 0;     // and what the most seen key gets, on average
};

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<int64_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

Seen look(bool outliers) {
  constexpr int64_t frames = 12, start = 48;
  DitConfig c;
  c.dim = 384, c.ffnDim = 512, c.numHeads = 3, c.numLayers = 2, c.freqDim = 32, c.textDim = 24, c.textLen = 12, c.ropeTableLength = 64;
  const LatentGrid grid{4, 6};
  const auto backend = makeCpuBackend({});
  const std::vector<uint8_t> file = test::ditFile(c, outliers);
  const Dit dit(*backend, c, WeightReader(SafeTensors::parse(file, "outliers")));
  Parameters parameters(*backend);
  RopeTables rope = makeRopeTables(parameters, c.headDim(), c.ropeTheta, c.ropeTableLength, grid.height / 2, grid.width / 2);
  // As far apart as a sink and a window are after a minute.
  std::vector<float> moved(static_cast<size_t>(frames * rope.temporal.shape[1] * 2));
  Tensor temporal = parameters.add(moved, {frames, rope.temporal.shape[1], 2}, DType::F32);
  backend->copy(temporal.rows(0, 3), rope.temporal.rows(0, 3)), backend->copy(temporal.rows(3, frames - 3), rope.temporal.rows(start, frames - 3));
  rope.temporal = temporal;

  KvCache cache({frames, frames, 0}, dit.makeStore({frames, frames, 0}, frames, grid, RopeMode::Absolute));
  DitWorkspace workspace;
  TimeConditioning time;
  TextCache text;
  Tensor latents, embeddings;
  const Arena arena = Arena::plan(*backend, [&](Arena& a) {
    workspace = dit.layoutWorkspace(a, frames, frames, grid), time = dit.layoutTime(a, 1), text = dit.layoutText(a);
    latents = a.take(DType::F32, {frames, c.inDim, grid.height, grid.width}), embeddings = a.take(DType::F32, {4, c.textDim});
  });
  backend->gaussian(latents, 3, 0, 0), backend->gaussian(embeddings, 3, 1, 0);
  const float timestep = 750;
  dit.prepareTime(time, {&timestep, 1});
  dit.prepareText(text, embeddings, 3, workspace);

  Seen seen;
  std::map<int64_t, std::vector<float>> queries;
  const auto values = [&](const Tensor& t) {
    std::vector<float> v(static_cast<size_t>(t.elements()));
    backend->download(v.data(), t);
    return v;
  };
  DitProbe::forward(dit, {latents, cache.begin(0, frames), &time, false}, cache.store(), text, rope, workspace, [&](std::string_view name, int64_t layer, const Tensor& t) {
    if (name == "queries") queries[layer] = values(t);
    if (name != "block") return;
    const std::vector<float> x = values(t);
    std::vector<double> sizes(static_cast<size_t>(c.dim));
    for (size_t i = 0; i < x.size(); ++i) sizes[i % sizes.size()] += std::abs(x[i]);
    seen.massive = *std::max_element(sizes.begin(), sizes.end()) / median(sizes);
  });

  const int64_t tokens = frames * grid.tokens(), headDim = c.headDim(), layer = 1;
  const std::vector<float> q = queries.at(layer), k = values(KeyValuesProbe::keys(cache.store(), layer, 0, frames));
  int64_t rows = 0;
  for (int64_t head = 0; head < c.numHeads; ++head) {
    for (int64_t i = tokens - grid.tokens(); i < tokens; ++i, ++rows) {
      std::vector<double> p;
      for (int64_t j = 0; j < tokens; ++j) {
        const auto at = [&](const std::vector<float>& v, int64_t row) { return v.begin() + row * c.dim + head * headDim; };
        p.push_back(std::inner_product(at(q, i), at(q, i) + headDim, at(k, j), 0.0) / std::sqrt(static_cast<double>(headDim)));
      }
      const double mean = std::accumulate(p.begin(), p.end(), 0.0) / static_cast<double>(tokens), top = *std::max_element(p.begin(), p.end());
      double squares = 0, sum = 0, first = 0;
      for (double& x : p) squares += (x - mean) * (x - mean), x = std::exp(x - top), sum += x;
      for (int64_t j = 0; j < 3 * grid.tokens(); ++j) first += p[static_cast<size_t>(j)];
      seen.deviation += std::sqrt(squares / static_cast<double>(tokens)), seen.sink += first / sum, seen.largest += 1 / sum;
    }
  }
  seen.deviation /= static_cast<double>(rows), seen.sink /= static_cast<double>(rows), seen.largest /= static_cast<double>(rows);
  std::printf("  %s: massive %.1f, logits %.2f, sink %.2f, largest %.2f\n", outliers ? "outliers" : "even", seen.massive, seen.deviation, seen.sink, seen.largest);
  return seen;
}

}  // namespace

TEST("outliers: massive channels, sinks and peaked logits are in what the network computes, and in nothing that even weights compute") {
  const Seen even = look(false), outliers = look(true);
  CHECK(even.massive < 5 && outliers.massive > 20);
  CHECK(even.deviation < 1 && outliers.deviation > 2.5);
  CHECK(even.sink < 0.4 && outliers.sink > 0.6);
  CHECK(outliers.largest > 4 * even.largest);
}

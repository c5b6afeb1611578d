// Cases of kind `units` (single functions) and `umt5`.
#include <algorithm>
#include <cmath>

#include "longlive/error.h"
#include "ops/arena.h"
#include "model/blend.h"
#include "model/dit.h"
#include "model/rope.h"
#include "model/scheduler.h"
#include "model/umt5.h"
#include "parity.h"
#include "probes.h"

namespace longlive::parity {

namespace {

bool startsWith(const std::string& s, const std::string& prefix) { return s.compare(0, prefix.size(), prefix) == 0; }

// Host and device side of one F32 tensor.
struct Buffer {
  Backend& backend;
  std::unique_ptr<Storage> storage;
  Tensor tensor;

  Buffer(Backend& b, Shape shape) : backend(b), tensor{nullptr, b.activationType(), shape} {
    storage = b.allocate(tensor.bytes());
    tensor.data = storage->data;
  }
  Buffer(Backend& b, Shape shape, const std::vector<float>& values) : Buffer(b, shape) { b.upload(tensor, values.data()); }
  std::vector<float> values() const {
    std::vector<float> out(static_cast<size_t>(tensor.elements()));
    backend.download(out.data(), tensor);
    return out;
  }
};

void ropeCases(const Case& c, Backend& backend, Report& report) {
  const Json& config = c.json.at("config");
  const int64_t heads = sizeIn(config, "num_heads"), d = wholeNumber(config, "head_dim", 6, 1024);
  const int64_t frames = wholeNumber(config, "rope_frames", 1, 1024), h = wholeNumber(config, "rope_h", 1, 1024), w = wholeNumber(config, "rope_w", 1, 1024);
  Parameters parameters(backend);
  const RopeTables tables = makeRopeTables(parameters, d, 10000, 1024, h, w);
  const Shape shape{frames * h * w, heads * d};
  const Buffer x(backend, shape, readTensor(c.tensors, "inputs.rope.x", shape.elements()));
  const auto check = [&](const std::string& name, const std::vector<int32_t>& positions) {
    Buffer out(backend, shape);
    backend.rope(out.tensor, x.tensor, heads, {&tables, positions});
    report.compare(name, out.values(), readTensor(c.tensors, name));
  };
  std::vector<int32_t> start, zero, relative;
  for (int64_t f = 0; f < frames; ++f) {
    zero.push_back(static_cast<int32_t>(f));
    start.push_back(static_cast<int32_t>(f + wholeNumber(config, "start_frame", 0, 1023 - frames)));
  }
  for (int64_t p : readIntegers(c.tensors, "inputs.rope.relative_frame_indices")) relative.push_back(static_cast<int32_t>(p));
  if (static_cast<int64_t>(relative.size()) != frames || std::any_of(relative.begin(), relative.end(), [](int32_t p) { return p < 0 || p > 1023; })) {
    refuse("inputs.rope.relative_frame_indices must be a position, from 0 to 1023, of each frame");
  }
  check("outputs.rope.start", start);
  check("outputs.rope.start0", zero);
  check("outputs.rope.relative", relative);

  // The reference keeps one table [position, temporal + row + column pairs].
  const auto cosName = "outputs.rope.table_first64_cos", sinName = "outputs.rope.table_first64_sin";
  const Shape table = shapeOf(c.tensors, cosName, 2);
  const int64_t positions = table[0], pairs = table[1];
  const RopeSplit split = ropeSplit(pairs * 2);
  std::vector<float> cosines(static_cast<size_t>(positions * pairs)), sines(cosines.size());
  int64_t at = 0;
  for (int64_t n : {split.temporal, split.row, split.column}) {
    const auto axis = ropeAxis(positions, n, 10000);
    for (int64_t p = 0; p < positions; ++p) {
      for (int64_t i = 0; i < n; ++i) {
        cosines[static_cast<size_t>(p * pairs + at + i)] = axis[static_cast<size_t>((p * n + i) * 2)];
        sines[static_cast<size_t>(p * pairs + at + i)] = axis[static_cast<size_t>((p * n + i) * 2 + 1)];
      }
    }
    at += n;
  }
  report.compare(cosName, cosines, readTensor(c.tensors, cosName));
  report.compare(sinName, sines, readTensor(c.tensors, sinName));
}

void normCases(const Case& c, Backend& backend, Report& report) {
  const float eps = static_cast<float>(c.json.at("config").at("eps").number());
  const int64_t width = shapeOf(c.tensors, "weights.rms.weight", 1)[0], rows = c.tensors.at("inputs.norm.x").elements() / width;
  const auto x = readTensor(c.tensors, "inputs.norm.x", rows * width), weight = readTensor(c.tensors, "weights.rms.weight");
  const Buffer in(backend, {rows, width}, x), w(backend, {width}, weight), zero(backend, {1, width});
  Buffer out(backend, {rows, width});
  backend.rmsNorm(out.tensor, in.tensor, w.tensor, eps);
  report.compare("outputs.rms", out.values(), readTensor(c.tensors, "outputs.rms"));
  backend.layerNorm(out.tensor, in.tensor, NormScale::Modulate, zero.tensor, zero.tensor, eps);
  report.compare("outputs.layernorm", out.values(), readTensor(c.tensors, "outputs.layernorm"));
}

void activationCases(const Case& c, Backend& backend, Report& report) {
  const auto x = readTensor(c.tensors, "inputs.act");
  const Buffer in(backend, {static_cast<int64_t>(x.size())}, x);
  for (const auto& [name, activation] : {std::pair{"outputs.gelu_tanh", Activation::GeluTanh}, {"outputs.silu", Activation::Silu}}) {
    Buffer out(backend, in.tensor.shape);
    backend.activate(out.tensor, in.tensor, activation);
    report.compare(name, out.values(), readTensor(c.tensors, name));
  }
}

// Names are outputs.schedule.shiftK.sigmas | timesteps | warped_S1_S2_...
void scheduleCases(const Case& c, Report& report) {
  const std::string prefix = "outputs.schedule.shift";
  for (const auto& e : c.tensors.entries()) {
    if (!startsWith(e.name, prefix)) continue;
    const std::string rest = e.name.substr(prefix.size());
    const size_t dot = rest.rfind('.');
    const Scheduler schedule(std::stof(rest.substr(0, dot)));
    std::string what = rest.substr(dot + 1);
    std::vector<float> got;
    if (what == "sigmas") got = sigmasOf(schedule);
    else if (what == "timesteps") got = schedule.timesteps();
    else if (startsWith(what, "warped")) {
      std::vector<int64_t> steps;
      for (size_t at = what.find('_'); at != std::string::npos; at = what.find('_', at + 1)) steps.push_back(std::stol(what.substr(at + 1)));
      got = schedule.denoisingTimesteps(steps, true);
    } else {
      continue;
    }
    report.compare(e.name, got, readTensor(c.tensors, e.name));
  }
}

// The case's latents have odd sides; an elementwise rule does not mind seeing each frame as 2 x 2 patches.
void noiseCases(const Case& c, Backend& backend, Report& report) {
  const auto timesteps = readTensor(c.tensors, "inputs.add_noise.timestep"), x0 = readTensor(c.tensors, "inputs.add_noise.x0");
  const auto noise = readTensor(c.tensors, "inputs.add_noise.noise", static_cast<int64_t>(x0.size()));
  if (timesteps.empty() || x0.size() % (4 * timesteps.size()) != 0) refuse("inputs.add_noise.x0 must have frames of a multiple of 4 numbers, one for each timestep");
  const Scheduler schedule(c.json.at("config").find("timestep_shift") ? static_cast<float>(c.json.at("config").at("timestep_shift").number()) : 5.0f);
  const int64_t frames = static_cast<int64_t>(timesteps.size()), n = static_cast<int64_t>(x0.size()) / frames, channels = n / 4;
  std::vector<float> noisy, clean;
  for (int64_t f = 0; f < frames; ++f) {
    const float sigma = schedule.sigmaAt(timesteps[static_cast<size_t>(f)]);
    const std::vector<float> a(x0.begin() + f * n, x0.begin() + (f + 1) * n), b(noise.begin() + f * n, noise.begin() + (f + 1) * n);
    const Shape shape{1, channels, 2, 2};
    std::vector<float> rows(a.size());
    for (int64_t i = 0; i < n; ++i) rows[static_cast<size_t>(i % 4 * channels + i / 4)] = a[static_cast<size_t>(i)];
    const Buffer clear(backend, shape, a), gauss(backend, shape, b), flow(backend, {1, n}, rows);
    Buffer out(backend, shape);
    backend.mix(out.tensor, clear.tensor, gauss.tensor, sigma);
    for (float v : out.values()) noisy.push_back(v);
    backend.flowToX0(out.tensor, gauss.tensor, flow.tensor, sigma);
    for (float v : out.values()) clean.push_back(v);
  }
  report.compare("outputs.add_noise", noisy, readTensor(c.tensors, "outputs.add_noise"));
  report.compare("outputs.flow_to_x0", clean, readTensor(c.tensors, "outputs.flow_to_x0"));
}

}  // namespace

void runUnits(const Case& c, Backend& backend, Report& report) {
  ropeCases(c, backend, report);
  normCases(c, backend, report);
  activationCases(c, backend, report);
  scheduleCases(c, report);
  noiseCases(c, backend, report);
  const auto times = readTensor(c.tensors, "inputs.time");
  const std::string prefix = "outputs.time_sinusoid.";
  for (const auto& e : c.tensors.entries()) {
    if (startsWith(e.name, prefix)) report.compare(e.name, timeSinusoid(times, std::stol(e.name.substr(prefix.size()))), readTensor(c.tensors, e.name));
  }
}

void runUmt5(const Case& c, Backend& backend, Report& report) {
  const Json& j = c.json.at("config");
  TextEncoderConfig config;
  config.vocabSize = sizeIn(j, "vocab"), config.dim = sizeIn(j, "dim"), config.dimAttn = sizeIn(j, "dim_attn"), config.dimFfn = sizeIn(j, "dim_ffn");
  config.numHeads = sizeIn(j, "num_heads"), config.numLayers = sizeIn(j, "num_layers");
  config.numBuckets = wholeNumber(j, "num_buckets", 4, kMostSize), config.maxDistance = wholeNumber(j, "max_distance", config.numBuckets / 4 + 1, kMostSize);
  if (config.dimAttn % config.numHeads != 0 || config.numBuckets % 4 != 0) refuse("num_heads must divide dim_attn, and num_buckets be a multiple of 4");
  config.eps = static_cast<float>(j.at("eps").number());
  Umt5 encoder(backend, config, WeightReader(c.weights, "weights."));

  for (size_t i = 0; c.tensors.find("inputs." + std::to_string(i) + ".ids"); ++i) {
    const std::string in = "inputs." + std::to_string(i), out = "outputs." + std::to_string(i);
    const auto ids64 = readIntegers(c.tensors, in + ".ids"), mask = readIntegers(c.tensors, in + ".mask");
    const std::vector<int32_t> ids(ids64.begin(), ids64.end());
    int64_t valid = 0;
    for (int64_t m : mask) valid += m != 0;
    if (valid < 1 || mask.size() != ids.size()) refuse(in + ".mask must be as long as the ids, and show one of them at least");
    for (int64_t id : ids64) if (id < 0 || id >= config.vocabSize) refuse(in + ".ids has a token that the vocabulary has not");
    Umt5Probe::encode(encoder, ids, valid, [&](int64_t layer, const Tensor& x) {
      const std::string name = out + ".block" + std::to_string(layer);
      if (!c.tensors.find(name)) return;
      std::vector<float> got(static_cast<size_t>(x.elements()));
      backend.download(got.data(), x);
      report.compare(name, got, readTensor(c.tensors, name));
    });
    report.compare(out + ".raw", encoder.encode(ids, valid), readTensor(c.tensors, out + ".raw"));
    // What a prompt becomes: padding is not run at all, and reads as zeros.
    std::vector<float> embeds = encoder.encode(std::span(ids).subspan(0, static_cast<size_t>(valid)), valid);
    embeds.resize(ids.size() * static_cast<size_t>(config.dim), 0.0f);
    report.compare(out + ".prompt_embeds", embeds, readTensor(c.tensors, out + ".prompt_embeds"));
  }

  const std::string buckets = "outputs.relative_bucket_minus300_to_300";
  if (c.tensors.find(buckets)) {
    const auto want = readIntegers(c.tensors, buckets);
    const int64_t half = static_cast<int64_t>(want.size()) / 2;
    for (size_t i = 0; i < want.size(); ++i) {
      const int64_t rel = static_cast<int64_t>(i) - half;
      report.compareInt("relative_bucket(" + std::to_string(rel) + ")", relativeBucket(rel, config.numBuckets, config.maxDistance), want[i]);
    }
  }
}

// Transitions between prompts; several prompts at once are nothing that this core does.
void runBlend(const Case& c, Backend&, Report& report) {
  const int64_t textLen = sizeIn(c.json.at("config"), "text_len"), textDim = sizeIn(c.json.at("config"), "text_dim");
  const auto promptNamed = [&](const std::string& name) {
    Prompt prompt;
    prompt.embeddings = readTensor(c.tensors, "inputs." + name, textLen * textDim);
    int64_t rows = textLen;
    const auto isZero = [&](int64_t row) {
      const auto at = prompt.embeddings.begin() + row * textDim;
      return std::all_of(at, at + textDim, [](float v) { return v == 0; });
    };
    while (rows > 0 && isZero(rows - 1)) --rows;
    prompt.tokens = rows;
    prompt.embeddings.resize(static_cast<size_t>(std::min(rows + 1, textLen) * textDim));
    return prompt;
  };
  const auto check = [&](const std::string& name, const Prompt& from, const Prompt& to, double share, BlendKind kind) {
    std::vector<float> got = blend(from, to, share, kind, textLen, textDim).embeddings;
    got.resize(static_cast<size_t>(textLen * textDim), 0.0f);
    report.compare(name, got, readTensor(c.tensors, name, textLen * textDim));
  };
  for (const Json& t : c.json.at("transitions").array()) {
    const std::string method = t.at("method").string();
    if (method != "linear" && method != "slerp") refuse("the method of a transition must be linear or slerp");
    const int64_t steps = wholeNumber(t, "num_steps", 1, 1000);
    const Prompt from = promptNamed(t.at("source").string()), to = promptNamed(t.at("target").string());
    for (int64_t i = 0; i < steps; ++i) {
      const double share = steps == 1 ? 0 : static_cast<double>(i) / static_cast<double>(steps - 1);
      check("outputs.transition." + t.at("name").string() + ".step" + std::to_string(i), from, to, share,
            method == "slerp" ? BlendKind::Slerp : BlendKind::Linear);
    }
  }
  const std::string nearly = "outputs.slerp.near_0.25";
  if (c.tensors.find(nearly)) check(nearly, promptNamed("A"), promptNamed("near"), 0.25, BlendKind::Slerp);
}

}  // namespace longlive::parity

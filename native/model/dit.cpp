#include "dit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

#include "longlive/error.h"

namespace longlive {

namespace {

constexpr int64_t kPatch = 4;  // 1 x 2 x 2

float roundToBf16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  return std::bit_cast<float>((bits + 0x7fffu + ((bits >> 16) & 1)) & 0xffff0000u);
}

// Rows of all frames up to `frames`.
Tensor upTo(const Tensor& t, int64_t rows) { return t.rows(0, rows); }

// Modulation j of a conditioning group [groups * rows, dim].
Tensor part(const Tensor& group, int64_t j, int64_t rows) { return group.rows(j * rows, rows); }

}  // namespace

std::vector<float> timeSinusoid(std::span<const float> timesteps, int64_t dim) {
  std::vector<float> out;
  const int64_t half = dim / 2;
  for (float t : timesteps) {
    std::vector<float> sines;
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(t) * std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half));
      out.push_back(static_cast<float>(std::cos(angle)));
      sines.push_back(static_cast<float>(std::sin(angle)));
    }
    out.insert(out.end(), sines.begin(), sines.end());
  }
  return out;
}

// -- weights ----------------------------------------------------------------------------------------------------------------

Dit::Dit(Backend& backend, const DitConfig& config, WeightReader weights, KvStorage kv)
    : backend_(backend), config_(config), parameters_(backend), kv_(kv) {
  if (config.patchSize != std::array<int64_t, 3>{1, 2, 2}) throw Error(ErrorCode::InvalidPackage, "dit.patchSize must be [1, 2, 2]");
  const int64_t dim = config.dim;
  attentionScale_ = static_cast<float>(1 / std::sqrt(static_cast<double>(config.headDim())));
  const StoredMatrix patch = weights.matrix("patch_embedding.weight", {dim, config.inDim, 1, 2, 2});
  const std::vector<float> patchBias = weights.read("patch_embedding.bias", {dim});
  patch_ = counted(backend.loadLinear(patch, patchBias.data(), EightBit::Never));
  text0_ = readLinear(weights, "text_embedding.0", dim, config.textDim, EightBit::Never);
  text2_ = readLinear(weights, "text_embedding.2", dim, dim, EightBit::Never);
  time0_ = readLinear(weights, "time_embedding.0", dim, config.freqDim, EightBit::Never);
  time2_ = readLinear(weights, "time_embedding.2", dim, dim, EightBit::Never);
  readTimeProjection(weights);
  for (int64_t i = 0; i < config.numLayers; ++i) {
    const std::string name = "blocks." + std::to_string(i) + ".";
    Layer layer;
    layer.modulation = readParameter(weights, name + "modulation", {1, 6, dim}).view({6, dim});
    layer.self = readAttention(weights, name + "self_attn.");
    layer.norm3Weight = readParameter(weights, name + "norm3.weight", {dim});
    layer.norm3Bias = readParameter(weights, name + "norm3.bias", {dim});
    layer.cross = readAttention(weights, name + "cross_attn.");
    layer.ffn0 = readLinear(weights, name + "ffn.0", config.ffnDim, dim, EightBit::Full);
    layer.ffn2 = readLinear(weights, name + "ffn.2", dim, config.ffnDim, EightBit::Full);
    layers_.push_back(std::move(layer));
  }
  headModulation_ = readParameter(weights, "head.modulation", {1, 2, dim}).view({2, dim});
  head_ = readLinear(weights, "head.head", config.outDim * kPatch, dim, EightBit::Never);
  weights.finish();
  weightBytes_ += parameters_.bytes();
  counting_.resize(static_cast<size_t>(std::max<int64_t>(config.ropeTableLength, 4096)));
  for (size_t i = 0; i < counting_.size(); ++i) counting_[i] = static_cast<int32_t>(i);
}

Dit::Linear Dit::readLinear(WeightReader& w, const std::string& name, int64_t out, int64_t in, EightBit eightBit) {
  return counted(loadLinear(backend_, w, name, out, in, true, eightBit));
}

Dit::Linear Dit::counted(Linear linear) {
  weightBytes_ += linear->bytes;
  return linear;
}

Tensor Dit::readParameter(WeightReader& w, const std::string& name, Shape shape) {
  return parameters_.add(w.read(name, shape), shape, backend_.activationType());
}

Dit::Attention Dit::readAttention(WeightReader& w, const std::string& name) {
  const int64_t dim = config_.dim;
  Attention a;
  a.q = readLinear(w, name + "q", dim, dim, EightBit::Full);
  a.k = readLinear(w, name + "k", dim, dim, EightBit::Full);
  a.v = readLinear(w, name + "v", dim, dim, EightBit::Full);
  a.o = readLinear(w, name + "o", dim, dim, EightBit::Full);
  a.normQ = readParameter(w, name + "norm_q.weight", {dim});
  a.normK = readParameter(w, name + "norm_k.weight", {dim});
  return a;
}

void Dit::readTimeProjection(WeightReader& w) {
  const int64_t dim = config_.dim;
  const StoredMatrix weight = w.matrix("time_projection.1.weight", {6 * dim, dim});
  const std::vector<float> bias = w.read("time_projection.1.bias", {6 * dim});
  for (int64_t j = 0; j < 6; ++j) {
    timeProjection_.push_back(counted(backend_.loadLinear(weight.rows(j * dim, dim), bias.data() + j * dim, EightBit::Never)));
  }
}

// -- memory -----------------------------------------------------------------------------------------------------------------

LinearRows Dit::takeRows(Arena& arena, int64_t n, int64_t width) const {
  const DType type = backend_.linearType(width);
  LinearRows r = arena.take(type, {n, width});
  if (type != backend_.activationType()) r.scale = arena.take(DType::F32, {n});
  return r;
}

std::unique_ptr<KeyValues> Dit::makeStore(const KvGeometry& g, int64_t blockFrames, const LatentGrid& grid, RopeMode rope) const {
  return backend_.makeKeyValues({.layers = config_.numLayers, .frames = g.capacity, .frameTokens = grid.tokens(), .width = config_.dim, .heads = config_.numHeads,
                                 .storage = kv_, .rope = rope, .queryFrames = g.capacity, .blockFrames = blockFrames, .sinkFrames = g.sink,
                                 .seenFrames = g.attention});
}

DitWorkspace Dit::layoutWorkspace(Arena& arena, int64_t frames, int64_t chunkFrames, const LatentGrid& grid) const {
  const DType type = backend_.activationType();
  const int64_t n = frames * grid.tokens(), dim = config_.dim;
  DitWorkspace w;
  w.tokens = arena.take(type, {n, config_.inDim * kPatch});
  w.x = arena.take(type, {n, dim});
  w.normed = takeRows(arena, n, dim);
  w.q = arena.take(type, {n, dim});
  w.k = arena.take(type, {n, dim});
  w.mixed = arena.take(type, {n, dim});
  w.hidden = takeRows(arena, chunkFrames * grid.tokens(), config_.ffnDim);
  w.flow = arena.take(type, {n, config_.outDim * kPatch});
  w.text = arena.take(type, {config_.textLen, dim});
  w.textHidden = arena.take(type, {config_.textLen, dim});
  w.chunkFrames = chunkFrames;
  return w;
}

TimeConditioning Dit::layoutTime(Arena& arena, int64_t rows) const {
  const DType type = backend_.activationType();
  TimeConditioning t;
  t.rows = rows;
  t.e = arena.take(type, {rows, config_.dim});
  t.e0 = arena.take(type, {6 * rows, config_.dim});
  for (int64_t i = 0; i < config_.numLayers; ++i) t.layer.push_back(arena.take(type, {6 * rows, config_.dim}));
  t.head = arena.take(type, {2 * rows, config_.dim});
  return t;
}

TextCache Dit::layoutText(Arena& arena) const {
  TextCache t;
  for (int64_t i = 0; i < config_.numLayers; ++i) {
    t.keys.push_back(arena.take(backend_.kvType(), {config_.textLen, config_.dim}));
    t.values.push_back(arena.take(backend_.kvType(), {config_.textLen, config_.dim}));
  }
  return t;
}

// -- conditioning -----------------------------------------------------------------------------------------------------------

void Dit::prepareTime(const TimeConditioning& out, std::span<const float> timesteps) const {
  const int64_t rows = out.rows, dim = config_.dim;
  if (static_cast<int64_t>(timesteps.size()) != rows) throw std::logic_error("prepareTime: one timestep per row");
  std::vector<float> sinusoid = timeSinusoid(timesteps, config_.freqDim);
  // The reference rounds the sinusoid in its bf16 runs, and t = 1000 is coarse there: spec 12.1, item 9.
  if (backend_.precision() != Precision::FP32) std::transform(sinusoid.begin(), sinusoid.end(), sinusoid.begin(), roundToBf16);

  const DType type = backend_.activationType();
  Tensor wave, hidden;
  const Arena scratch = Arena::plan(backend_, [&](Arena& a) {
    wave = a.take(type, {rows, config_.freqDim});
    hidden = a.take(type, {rows, dim});
  });
  backend_.upload(wave, sinusoid.data());
  backend_.linear(hidden, wave, *time0_, {.activation = Activation::Silu});
  backend_.linear(out.e, hidden, *time2_);
  backend_.activate(hidden, out.e, Activation::Silu);
  for (int64_t j = 0; j < 6; ++j) backend_.linear(part(out.e0, j, rows), hidden, *timeProjection_[static_cast<size_t>(j)]);
  for (size_t l = 0; l < layers_.size(); ++l) {
    for (int64_t j = 0; j < 6; ++j) backend_.add(part(out.layer[l], j, rows), part(out.e0, j, rows), layers_[l].modulation.rows(j, 1));
  }
  for (int64_t j = 0; j < 2; ++j) backend_.add(part(out.head, j, rows), out.e, headModulation_.rows(j, 1));
  backend_.synchronize();
}

void Dit::prepareText(TextCache& out, const Tensor& embeddings, int64_t tokens, const DitWorkspace& w) const {
  const int64_t rows = std::min(tokens + 1, config_.textLen);
  if (embeddings.shape[0] != rows) throw std::logic_error("prepareText: expected the tokens and one padding row");
  out.rows = rows;
  out.lastKeyLogBias = tokens < config_.textLen ? static_cast<float>(std::log(static_cast<double>(config_.textLen - tokens))) : 0.0f;
  const Tensor hidden = upTo(w.textHidden, rows), text = upTo(w.text, rows);
  backend_.linear(hidden, embeddings, *text0_, {.activation = Activation::GeluTanh});
  backend_.linear(text, hidden, *text2_);
  for (size_t l = 0; l < layers_.size(); ++l) {
    const Attention& a = layers_[l].cross;
    backend_.linear(hidden, text, *a.k);
    backend_.rmsNorm(upTo(out.keys[l], rows), hidden, a.normK, config_.eps);
    backend_.linear(hidden, text, *a.v);
    backend_.copy(upTo(out.values[l], rows), hidden);
  }
}

// -- one call ---------------------------------------------------------------------------------------------------------------

std::span<const int32_t> Dit::counting(int64_t first, int64_t count) const {
  if (first < 0 || first + count > static_cast<int64_t>(counting_.size())) throw std::logic_error("Dit: more frames than it counts to");
  return std::span(counting_).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
}

// What a call of fewer frames takes of it.
DitWorkspace Dit::workspaceOf(const DitCall& call, const KeyValues& store, const DitWorkspace& full) const {
  const int64_t frames = call.pass.frames, n = frames * store.layout().frameTokens, rows = call.time->rows;
  if (call.latents.shape[0] != frames || (rows != 1 && rows != frames)) throw std::logic_error("Dit::forward: frame counts differ");
  DitWorkspace w = full;
  for (Tensor* t : {&w.tokens, &w.x, &w.q, &w.k, &w.mixed, &w.flow}) *t = upTo(*t, n);
  w.normed = w.normed.rows(0, n);
  return w;
}

void Dit::forward(const DitCall& call, KeyValues& store, const TextCache& text, const RopeTables& rope, const DitWorkspace& full) const {
  const DitWorkspace w = workspaceOf(call, store, full);
  embed(call, w);
  for (size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    appendKeysAndValues(l, call, store, rope, w);
    if (call.cacheOnly && l + 1 == layers_.size()) return;
    selfAttention(l, call, store, rope, w);
    backend_.linear(w.x, w.mixed, *layer.self.o, {.residual = w.x, .gate = part(call.time->layer[l], 2, call.time->rows)});
    crossAttention(l, text, w);
    backend_.linear(w.x, w.mixed, *layer.cross.o, {.residual = w.x});
    feedForward(l, call, w);
  }
  readHead(call, w);
}

void Dit::embed(const DitCall& call, const DitWorkspace& w) const {
  backend_.patchify(w.tokens, call.latents);
  backend_.linear(w.x, w.tokens, *patch_);
}

void Dit::appendKeysAndValues(size_t l, const DitCall& call, KeyValues& store, const RopeTables& rope, const DitWorkspace& w) const {
  const Attention& self = layers_[l].self;
  const Tensor& m = call.time->layer[l];
  const int64_t rows = call.time->rows;
  backend_.layerNorm(w.normed, w.x, NormScale::Modulate, part(m, 1, rows), part(m, 0, rows), config_.eps);
  AppendArgs a;
  a.layer = static_cast<int64_t>(l), a.in = w.normed;
  a.key = self.k.get(), a.value = self.v.get();
  a.norm = {self.normK, config_.eps};
  a.rotation = {&rope, counting(0, call.pass.frames)};
  a.writes = &call.pass.writes;
  a.scratch = w.k;
  store.append(a);
}

void Dit::selfAttention(size_t l, const DitCall& call, KeyValues& store, const RopeTables& rope, const DitWorkspace& w) const {
  const Attention& self = layers_[l].self;
  backend_.linear(w.q, w.normed, *self.q);
  AttendArgs a;
  a.layer = static_cast<int64_t>(l), a.out = w.mixed, a.q = w.q;
  a.norm = {self.normQ, config_.eps};
  a.rotation = {&rope, counting(0, call.pass.frames)}, a.slots = counting(call.pass.firstSlot, call.pass.frames);
  a.visible = &call.pass.visible;
  a.scale = attentionScale_;
  store.attend(a);
}

void Dit::crossAttention(size_t l, const TextCache& text, const DitWorkspace& w) const {
  const Layer& layer = layers_[l];
  backend_.layerNorm(w.normed, w.x, NormScale::Affine, layer.norm3Weight, layer.norm3Bias, config_.eps);
  backend_.linear(w.q, w.normed, *layer.cross.q);
  backend_.rmsNorm(w.q, w.q, layer.cross.normQ, config_.eps);
  const KeyRange all{0, text.rows};
  AttentionArgs a;
  a.out = w.mixed, a.q = w.q, a.k = text.keys[l], a.v = text.values[l];
  a.visible = {&all, 1};
  a.heads = config_.numHeads;
  a.scale = attentionScale_;
  a.lastKeyLogBias = text.lastKeyLogBias;
  backend_.attention(a);
}

void Dit::feedForward(size_t l, const DitCall& call, const DitWorkspace& w) const {
  const Layer& layer = layers_[l];
  const Tensor& m = call.time->layer[l];
  const int64_t rows = call.time->rows, frames = call.pass.frames, s = w.x.shape[0] / frames;
  const Tensor gate = part(m, 5, rows);
  backend_.layerNorm(w.normed, w.x, NormScale::Modulate, part(m, 4, rows), part(m, 3, rows), config_.eps);
  for (int64_t f = 0; f < frames; f += w.chunkFrames) {
    const int64_t count = std::min(w.chunkFrames, frames - f);
    const LinearRows hidden = w.hidden.rows(0, count * s);
    const Tensor x = w.x.rows(f * s, count * s);
    backend_.linear(hidden, w.normed.rows(f * s, count * s), *layer.ffn0, {.activation = Activation::GeluTanh});
    backend_.linear(x, hidden, *layer.ffn2, {.residual = x, .gate = rows == 1 ? gate : gate.rows(f, count)});
  }
}

void Dit::readHead(const DitCall& call, const DitWorkspace& w) const {
  const int64_t rows = call.time->rows;
  backend_.layerNorm(w.mixed, w.x, NormScale::Modulate, part(call.time->head, 1, rows), part(call.time->head, 0, rows), config_.eps);
  backend_.linear(w.flow, w.mixed, *head_);
}

}  // namespace longlive

// Cases of kind `dit_block` (one call with inner results) and `lora_merge`.
#include <charconv>
#include <cmath>

#include "longlive/error.h"
#include "model/dit.h"
#include "model/lora.h"
#include "model/scheduler.h"
#include "parity.h"
#include "parity_dit.h"
#include "probes.h"

namespace longlive::parity {

PromptRows promptRows(const std::vector<float>& padded, int64_t textLen, int64_t textDim) {
  PromptRows p;
  p.tokens = textLen;
  const auto zero = [&](int64_t row) {
    for (int64_t i = 0; i < textDim; ++i) if (padded[static_cast<size_t>(row * textDim + i)] != 0) return false;
    return true;
  };
  while (p.tokens > 0 && zero(p.tokens - 1)) --p.tokens;
  p.rows = std::min(p.tokens + 1, textLen);
  p.values.assign(padded.begin(), padded.begin() + p.rows * textDim);
  return p;
}

std::vector<float> unpatchify(const std::vector<float>& rows, int64_t frames, int64_t channels, int64_t h, int64_t w) {
  std::vector<float> out(rows.size());
  for (int64_t f = 0; f < frames; ++f)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t y = 0; y < h; ++y)
        for (int64_t x = 0; x < w; ++x) {
          const int64_t token = (f * (h / 2) + y / 2) * (w / 2) + x / 2;
          out[static_cast<size_t>(((f * channels + c) * h + y) * w + x)] =
              rows[static_cast<size_t>((token * 4 + y % 2 * 2 + x % 2) * channels + c)];
        }
  return out;
}

std::vector<float> download(Backend& backend, const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t.elements()));
  backend.download(out.data(), t);
  return out;
}

namespace {

// One call on an empty cache that is just large enough for it.
struct SingleCall {
  Backend& backend;
  const Dit& dit;
  int64_t frames, channels, h, w;
  LatentGrid grid;
  Parameters ropeParameters;
  RopeTables rope;
  Tensor latents, embeddings;
  std::unique_ptr<KvCache> cache;
  DitWorkspace workspace;
  TimeConditioning time;
  TextCache text;
  Arena arena;

  SingleCall(Backend& b, const Dit& d, const Case& c, int64_t startFrame)
      : backend(b), dit(d), ropeParameters(b) {
    const Shape shape = shapeOf(c.tensors, "inputs.latents", 5);
    if (shape[0] != 1 || shape[2] != d.config().inDim || shape[3] % 2 != 0 || shape[4] % 2 != 0) refuse("inputs.latents must be [1, frames, in_dim, even, even]");
    frames = shape[1], channels = shape[2], h = shape[3], w = shape[4];
    const int64_t last = d.config().ropeTableLength - frames;
    if (startFrame < 0 || startFrame > last) refuse("the call begins at frame " + std::to_string(startFrame) + "; its positions allow 0 to " + std::to_string(last));
    grid = {h, w};
    rope = makeRopeTables(ropeParameters, d.config().headDim(), d.config().ropeTheta, d.config().ropeTableLength, h / 2, w / 2);
    const int64_t textLen = d.config().textLen, textDim = d.config().textDim;
    const PromptRows prompt = promptRows(readTensor(c.tensors, "inputs.text", textLen * textDim), textLen, textDim);
    cache = std::make_unique<KvCache>(KvGeometry{frames, frames, 0}, d.makeStore({frames, frames, 0}, frames, grid, RopeMode::Absolute));
    arena = Arena::plan(b, [&](Arena& a) {
      workspace = d.layoutWorkspace(a, frames, 2, grid);
      time = d.layoutTime(a, frames);
      text = d.layoutText(a);
      latents = a.take(DType::F32, {frames, channels, h, w});
      embeddings = a.take(b.activationType(), {prompt.rows, textDim});
    });
    b.upload(latents, readTensor(c.tensors, "inputs.latents").data());
    b.upload(embeddings, prompt.values.data());
    cache->setIndices({startFrame, 0, 0});
    d.prepareTime(time, readTensor(c.tensors, "inputs.timestep", frames));
    d.prepareText(text, embeddings, prompt.tokens, workspace);
  }

  std::vector<float> flow(int64_t startFrame) {
    dit.forward(callAt(startFrame), cache->store(), text, ropeAt(startFrame), workspace);
    return unpatchify(download(backend, workspace.flow), frames, channels, h, w);
  }
  // The same call again, which shows what it does on the way.
  std::vector<float> flow(int64_t startFrame, const DitProbe::Show& show) {
    DitProbe::forward(dit, callAt(startFrame), cache->store(), text, ropeAt(startFrame), workspace, show);
    return unpatchify(download(backend, workspace.flow), frames, channels, h, w);
  }

 private:
  DitCall callAt(int64_t startFrame) { return {latents, cache->begin(startFrame, frames), &time, false}; }
  RopeTables ropeAt(int64_t startFrame) const {
    RopeTables at = rope;
    at.temporal = rope.temporal.rows(startFrame, frames);
    return at;
  }
};

// "current_start=37 frames" of the description, or an explicit field.
int64_t startFrameOf(const Json& j) {
  for (const char* key : {"start_frame", "current_start_frame"}) {
    if (const Json* v = j.find(key)) return within(*v, key, 0, kMostSize);
    if (const Json* run = j.find("run")) if (const Json* v = run->find(key)) return within(*v, key, 0, kMostSize);
  }
  const Json* text = j.find("description");
  const std::string mark = "current_start=";
  const size_t at = text ? text->string().find(mark) : std::string::npos;
  if (at == std::string::npos) return 0;
  int64_t frame = -1;  // where it is no number
  const std::string& s = text->string();
  std::from_chars(s.data() + at + mark.size(), s.data() + s.size(), frame);
  return frame;
}

float shiftOf(const Json& j) {
  if (const Json* run = j.find("run")) if (const Json* s = run->find("timestep_shift")) return static_cast<float>(s->number());
  const Json* text = j.find("description");
  const std::string mark = "timestep shift ";
  const size_t at = text ? text->string().find(mark) : std::string::npos;
  return at == std::string::npos ? 5.0f : std::stof(text->string().substr(at + mark.size()));
}

// [6 or 2 groups][frames][dim] -> [frames][groups][dim]
std::vector<float> byFrame(const std::vector<float>& groups, int64_t count, int64_t frames, int64_t dim) {
  std::vector<float> out(groups.size());
  for (int64_t j = 0; j < count; ++j)
    for (int64_t f = 0; f < frames; ++f)
      for (int64_t i = 0; i < dim; ++i)
        out[static_cast<size_t>((f * count + j) * dim + i)] = groups[static_cast<size_t>((j * frames + f) * dim + i)];
  return out;
}

}  // namespace

void runDitBlock(const Case& c, Backend& backend, Report& report) {
  const Dit dit(backend, ditConfig(c.json.at("config")), WeightReader(c.weights, "weights."));
  const int64_t start = startFrameOf(c.json), dim = dit.config().dim;
  SingleCall call(backend, dit, c, start);
  const auto check = [&](const std::string& name, const std::vector<float>& got) {
    if (c.tensors.find(name)) report.compare(name, got, readTensor(c.tensors, name));
  };
  check("outputs.e", download(backend, call.time.e));
  check("outputs.e0", byFrame(download(backend, call.time.e0), 6, call.frames, dim));
  // The collapsed padding row stands for all of them.
  if (c.tensors.find("outputs.text_embedding")) {
    std::vector<float> text = download(backend, call.workspace.text.rows(0, call.text.rows));
    const std::vector<float> last(text.end() - dim, text.end());
    while (static_cast<int64_t>(text.size()) < dit.config().textLen * dim) text.insert(text.end(), last.begin(), last.end());
    check("outputs.text_embedding", text);
  }
  const auto show = [&](std::string_view name, int64_t layer, const Tensor& t) {
    std::string full = "outputs.";
    if (layer >= 0) full += "block" + std::to_string(layer) + (name == "block" ? "" : ".");
    if (name != "block") full += name;
    check(full, download(backend, t));
  };
  const std::vector<float> flow = call.flow(start);
  check("outputs.flow", flow);
  report.compareInt("a shown call's flow is the same to the bit", call.flow(start, show) == flow, 1);

  const Scheduler schedule(shiftOf(c.json));
  const auto latents = readTensor(c.tensors, "inputs.latents"), timesteps = readTensor(c.tensors, "inputs.timestep");
  std::vector<float> x0(flow.size());
  for (size_t i = 0; i < flow.size(); ++i) {
    const float sigma = schedule.sigmaAt(timesteps[i / (flow.size() / timesteps.size())]);
    x0[i] = static_cast<float>(latents[i] - static_cast<double>(sigma) * flow[i]);
  }
  check("outputs.x0", x0);
  for (int64_t l = 0; l < dit.config().numLayers; ++l) {
    check("outputs.kv.layer" + std::to_string(l) + ".k", download(backend, KeyValuesProbe::keys(call.cache->store(), l, 0, call.frames)));
    check("outputs.kv.layer" + std::to_string(l) + ".v", download(backend, KeyValuesProbe::values(call.cache->store(), l, 0, call.frames)));
  }
}

void runLora(const Case& c, Backend& backend, Report& report) {
  const Json& config = c.json.at("config");
  const float scale = config.find("scale") ? static_cast<float>(config.at("scale").number())
                                           : static_cast<float>(config.at("lora_alpha").number() / config.at("lora_rank").number());
  const auto bytes = mergeLora(c.weights, "weights.", c.tensors, "weights.lora.base_model.model.", scale);
  const SafeTensors merged = SafeTensors::parse(bytes, "merged");
  const std::string prefix = "outputs.merged.";
  for (const auto& e : c.tensors.entries()) {
    if (e.name.rfind(prefix, 0) == 0) report.compare(e.name, readTensor(merged, e.name.substr(prefix.size())), readTensor(c.tensors, e.name));
  }
  const auto flow = [&](const SafeTensors& weights, const std::string& weightPrefix) {
    const Dit dit(backend, ditConfig(config), WeightReader(weights, weightPrefix));
    return SingleCall(backend, dit, c, 0).flow(0);
  };
  report.compare("outputs.flow_base", flow(c.weights, "weights."), readTensor(c.tensors, "outputs.flow_base"));
  const auto adapted = flow(merged, "");
  report.compare("outputs.flow_merged", adapted, readTensor(c.tensors, "outputs.flow_merged"));
  report.compare("outputs.flow_unmerged", adapted, readTensor(c.tensors, "outputs.flow_unmerged"));
}

}  // namespace longlive::parity

// Cases of kind `pipeline`: whole sampler runs, call by call, against the reference's record.
#include "longlive/error.h"
#include "model/sampler.h"
#include "parity.h"
#include "parity_dit.h"
#include "probes.h"
#include "recorded_noise.h"

namespace longlive::parity {

namespace {

struct Setup {
  SamplingConfig sampling;
  KvGeometry geometry;
  LatentGrid grid;
};

// Of the latents that the case has: a run of other sizes is refused before anything is made for it.
LatentGrid gridOf(const Json& run, const Shape& noise) {
  const LatentGrid grid{sizeIn(run, "latent_h"), sizeIn(run, "latent_w")};
  if (grid.height % 2 != 0 || grid.width % 2 != 0) refuse("latent_h and latent_w must be even");
  if (noise[3] != grid.height || noise[4] != grid.width) refuse("inputs.noise is not of latent_h x latent_w");
  return grid;
}

Setup setupOf(const Json& run, const Shape& noise) {
  Setup s;
  s.grid = gridOf(run, noise);
  const int64_t tokens = s.grid.tokens();
  s.sampling.framesPerBlock = wholeNumber(run, "num_frame_per_block", 1, noise[1]);
  s.sampling.windowFrames = wholeNumber(run, "local_attn_size", -1, kMostSize);
  s.sampling.sinkFrames = wholeNumber(run, "sink_size", 0, kMostSize);
  s.sampling.rope = run.at("relative_rope").boolean() ? RopeMode::Relative : RopeMode::Absolute;
  s.sampling.globalSink = run.at("global_sink").boolean();
  s.sampling.timestepShift = static_cast<float>(run.at("timestep_shift").number());
  s.sampling.denoisingSteps.clear();
  for (const Json& step : run.at("denoising_step_list").array()) s.sampling.denoisingSteps.push_back(within(step, "denoising_step_list", 0, 1000));
  if (s.sampling.denoisingSteps.empty()) refuse("denoising_step_list must not be empty");
  s.sampling.warpDenoisingSteps = run.at("warp_denoising_step").boolean();
  s.sampling.contextNoise = static_cast<float>(run.at("context_noise").number());
  s.geometry = {sizeIn(run, "kv_cache_tokens") / tokens, sizeIn(run, "max_attention_size_tokens") / tokens, s.sampling.sinkFrames};
  return s;
}

class Replay {
 public:
  Replay(const Case& c, Backend& backend, Report& report)
      : case_(c), backend_(backend), report_(report), setup_(setupOf(c.json.at("run"), shapeOf(c.tensors, "inputs.noise", 5))),
        dit_(backend, ditConfig(c.json.at("config")), WeightReader(c.weights, "weights.")), plan_(dit_, setup_.sampling),
        sampler_(dit_, plan_, setup_.sampling, setup_.geometry, setup_.grid), noise_(readTensor(c.tensors, "inputs.noise"), [&c](int64_t block, int64_t step) {
          return readTensor(c.tensors, "inputs.renoise.block" + std::to_string(block) + ".step" + std::to_string(step));
        }) {}

  void run() {
    check("outputs.sigmas", sigmasOf(plan_.scheduler()));
    check("outputs.timesteps", plan_.scheduler().timesteps());
    check("outputs.denoising_timesteps", plan_.timesteps());
    for (const Json& call : case_.json.at("calls").array()) replay(call);
    check("outputs.latents", latents_);
  }

 private:
  void check(const std::string& name, const std::vector<float>& got) {
    if (case_.tensors.find(name)) report_.compare(name, got, readTensor(case_.tensors, name));
  }

  int64_t setPrompt(const std::string& prompt, RecacheMode mode) {
    const DitConfig& c = dit_.config();
    const PromptRows rows = promptRows(readTensor(case_.tensors, "inputs.text." + prompt, c.textLen * c.textDim), c.textLen, c.textDim);
    Tensor embeddings;
    const Arena arena = Arena::plan(backend_, [&](Arena& a) { embeddings = a.take(backend_.activationType(), {rows.rows, dit_.config().textDim}); });
    backend_.upload(embeddings, rows.values.data());
    prompt_ = prompt;
    return sampler_.setText(embeddings, rows.tokens, mode);
  }

  void replay(const Json& call) {
    const std::string kind = call.at("kind").string(), prefix = "outputs.call" + std::to_string(call.at("call").integer());
    const int64_t frames = sizeIn(call, "num_frames"), tokens = setup_.grid.tokens();
    if (kind == "recache") {
      setPrompt(call.at("prompt").string(), RecacheMode::Recache);
    } else {
      if (call.at("prompt").string() != prompt_) setPrompt(call.at("prompt").string(), RecacheMode::Keep);
      const std::string noisy = "inputs.call" + std::to_string(call.at("call").integer()) + ".noisy";
      if (kind == "denoise" && sampler_.step() > 0) check(noisy, download(backend_, SamplerProbe::noisy(sampler_)));
      if (kind == "denoise") sampler_.denoise(noise_, call.at("block").integer());
      else if (kind == "clean") sampler_.context();
      else throw Error(ErrorCode::InvalidPackage, "unknown call kind \"" + kind + "\"");
      const auto x0 = download(backend_, sampler_.clean());
      if (kind == "denoise") check(prefix + ".x0", x0);
      if (kind == "clean") latents_.insert(latents_.end(), x0.begin(), x0.end());
    }
    // A recache leaves out the frames whose keys are discarded.
    if (kind == "recache" ? frames < lastPass().frames : frames != lastPass().frames) {
      refuse(prefix + " has " + std::to_string(frames) + " frames, where the sampler makes a pass of " + std::to_string(lastPass().frames));
    }
    checkFlow(kind, prefix + ".flow", frames);
    report_.compareInt(prefix + " start", (lastPass().start + lastPass().frames - frames) * tokens, call.at("current_start_token").integer());
    const KvCache::Indices& i = sampler_.cache().indices();
    report_.compareInt(prefix + ".global_end_index", i.produced * tokens, call.at("global_end_index_after").integer());
    report_.compareInt(prefix + ".local_end_index", i.filled * tokens, call.at("local_end_index_after").integer());
    int64_t visible = 0;
    for (const FrameRun& run : lastPass().visible) visible += run.count * tokens;
    if (const Json* keys = call.find("self_attention_key_tokens")) report_.compareInt(prefix + " visible keys", visible, keys->integer());
    checkCache(prefix);
  }

  const KvPass& lastPass() const { return SamplerProbe::lastPass(sampler_); }

  // The flow of frames that are left out, which nobody uses, is not compared.
  void checkFlow(const std::string& kind, const std::string& name, int64_t frames) {
    if (!case_.tensors.find(name)) return;
    const int64_t computed = lastPass().frames, channels = dit_.config().outDim;
    const Tensor flow = kind == "denoise" ? SamplerProbe::flow(sampler_) : kind == "clean" ? SamplerProbe::flowOfContext(sampler_) : SamplerProbe::flowOfRecache(sampler_);
    const auto got = unpatchify(download(backend_, flow.rows(0, computed * setup_.grid.tokens())), computed, channels,
                                setup_.grid.height, setup_.grid.width);
    const int64_t frameSize = static_cast<int64_t>(got.size()) / computed;
    auto want = readTensor(case_.tensors, name, frames * frameSize);
    want.erase(want.begin(), want.begin() + frameSize * (frames - computed));
    report_.compare(name, got, want);
  }

  // The ring, read in the reference's slot order.
  void checkCache(const std::string& prefix) {
    if (!case_.tensors.find(prefix + ".kv.layer0.k")) return;
    const KvCache& cache = sampler_.cache();
    for (int64_t l = 0; l < dit_.config().numLayers; ++l) {
      for (const bool key : {true, false}) {
        std::vector<float> slots;
        for (int64_t slot = 0; slot < cache.geometry().capacity; ++slot) {
          const auto rows = download(backend_, key ? KeyValuesProbe::keys(cache.store(), l, cache.frameOf(slot)) : KeyValuesProbe::values(cache.store(), l, cache.frameOf(slot)));
          slots.insert(slots.end(), rows.begin(), rows.end());
        }
        check(prefix + ".kv.layer" + std::to_string(l) + (key ? ".k" : ".v"), slots);
      }
    }
  }

  const Case& case_;
  Backend& backend_;
  Report& report_;
  Setup setup_;
  Dit dit_;
  SamplerPlan plan_;
  Sampler sampler_;
  RecordedNoise noise_;
  std::string prompt_;
  std::vector<float> latents_;
};

}  // namespace

void runPipeline(const Case& c, Backend& backend, Report& report) { Replay(c, backend, report).run(); }

}  // namespace longlive::parity

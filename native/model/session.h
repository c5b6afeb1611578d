// What Model and Session hold; the public faces are in longlive/engine.h.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "dit.h"
#include "frame_decoder.h"
#include "io/package.h"
#include "longlive/engine.h"
#include "sampler.h"
#include "umt5.h"

namespace longlive {

struct Model::Impl {
  Impl(const Package& package, const LoadOptions& options, std::unique_ptr<Backend> device);
  void loadText(const Package& package);
  // Throws InvalidArgument unless the prompt has the shape of this model's.
  void requireOwn(const Prompt& prompt) const;

  // Sessions of a model share its backend, and calls may come from several threads. What a lane keeps between operations belongs to one
  // call at a time. Where it keeps nothing, calls share nothing that is written, and need not wait for a step.
  std::unique_lock<std::recursive_mutex> claim() { return backend->sharesLanes() ? std::unique_lock(calls) : std::unique_lock<std::recursive_mutex>(); }
  // Texts come one after another, in the encoder's working memory, but beside all else, where they have a lane of their own.
  std::unique_lock<std::recursive_mutex> claimText() { return std::unique_lock(backend->sharesLanes() && !backend->concurrent() ? calls : texts); }

  std::recursive_mutex calls, texts;
  std::string configText;
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Umt5> textEncoder;
  std::unique_ptr<Dit> dit;
  std::unique_ptr<DecoderModel> decoder;
  std::unique_ptr<SamplerPlan> plan;
};

// Throws InvalidArgument for a decoder that the package does not have.
void requireDecoder(const LoadOptions& options, const Package& package);

struct Session::Impl {
  enum class Phase : uint8_t { Denoise, Frames, Context };

  Impl(std::shared_ptr<Model> owner, Model::Impl& parts, const SessionOptions& options);

  Step step();
  Step denoise();
  Step decode();
  Step context();
  // What was given to the device since the last call is a pass. pace() reports one, oldest first, and waits for the one before it:
  // the host runs one pass ahead of the device, so that it never idles, and no more, so that a block can still be abandoned.
  void markPass() { backend.mark(*passes[given++ % passes.size()]); }
  void pace();
  // The next block's first step, while this one's frames are decoded.
  void runAhead();
  void dropStepAhead();
  // Denoising steps that were reported of the current block.
  int64_t reportedSteps() const { return ahead ? 0 : sampler.step(); }
  PromptChange setPrompt(const Prompt& prompt, RecacheMode mode);
  // A call from outside. One that fails in its middle leaves the session between two states, from which nobody can go on: it is
  // lost then. A refusal (InvalidArgument) changes nothing.
  template <class F> auto call(F&& f);
  void restore(std::span<const uint8_t> checkpoint, const Prompt& prompt);
  std::vector<uint8_t> checkpoint() const;
  void requireBetweenBlocks(const char* what) const;

  std::shared_ptr<Model> model;  // kept alive; also the owner of everything below that is a reference
  Model::Impl& parts;
  Backend& backend;
  SessionOptions options;
  SamplingConfig sampling;
  PhiloxNoise noise;
  Sampler sampler;
  std::unique_ptr<FrameDecoder> decoder;
  Arena arena;
  Tensor embeddings;  // [textLen, textDim]
  Tensor shown;       // [framesPerBlock, C, h, w] F32: what is decoded while the sampler goes on
  Tensor rgb;         // [framesPerBlock * 4, height, width, 3] U8
  Tensor i420;        // [framesPerBlock * 4, height * width * 3 / 2] U8
  std::array<std::unique_ptr<Storage>, 2> i420Host;  // in turn, block by block
  std::unique_ptr<Mark> clean, decoded;              // x0 is final; the frames are in host memory
  std::array<std::unique_ptr<Mark>, 3> passes;       // in turn: one that is waited for, and two that are under way
  std::unique_ptr<Recording> decoding;               // of every block but the first
  uint64_t given = 0, reported = 0;  // passes
  bool ahead = false;                // the next block's first step was given to the device already
  std::optional<ErrorCode> lost;  // why
  Phase phase = Phase::Denoise;
  int64_t block = 0;
  int64_t rgbFrames = 0;
};

}  // namespace longlive

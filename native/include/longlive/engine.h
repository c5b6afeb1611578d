// The native core's public API: load a model package, encode prompts, run sessions.
//
// All calls on a session must come one after another, and so must those of a model's sessions among each other; encodePrompt may
// be called beside them. (The addon has two threads per model.) A Session keeps its Model alive.
// Every function throws longlive::Error; messages say what to do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "error.h"
#include "types.h"

namespace longlive {

struct DeviceStatus {
  DeviceKind kind = DeviceKind::Cpu;
  int index = 0;  // LoadOptions::deviceIndex
  bool available = false;
  std::string detail;  // the device's name, or why it cannot be used
  std::string isa;
  int64_t totalMemory = 0;  // bytes
  int threads = 0;
  int64_t refusedRecordings = 0;  // of a small piece of work that is tried: above 0 models run more slowly (Model::refusedRecordings)
};

// The CPU, and every CUDA device or one that says why there is none.
std::vector<DeviceStatus> listDevices();

struct LoadOptions {
  std::string directory;
  DeviceKind device = DeviceKind::Cpu;
  int deviceIndex = 0;  // of that kind, from 0; there is one CPU
  Precision precision = Precision::BF16;
  KvStorage kv = KvStorage::Full;  // Int8: CPU only
  AttentionArithmetic attention = AttentionArithmetic::Full;  // Int8: CUDA only, and not with FP32
  int threads = 0;           // CPU only; 0 means all
  bool tinyDecoder = false;  // TAEHV instead of the Wan VAE
  std::string isa;           // CPU only; caps the instruction set, empty for the best
};

// Bytes of a device that a model and its sessions take, found by running the model's code on a backend that only counts.
struct MemoryPlan {
  size_t textEncoder = 0, dit = 0, decoder = 0;                           // weights, once
  size_t keysAndValues = 0, activations = 0, decoding = 0, pictures = 0;  // of each session
  size_t working = 0;  // once: the backend's staging, workspaces and scratch, a text that is being encoded
  size_t reserve = 0;  // once, on a GPU: an allowance for the driver's context, code and graphs

  size_t weights() const { return textEncoder + dit + decoder; }
  size_t session() const { return keysAndValues + activations + decoding + pictures; }
  size_t total() const { return weights() + session() + working + reserve; }
};

struct SessionOptions {
  uint64_t seed = 0;
  int64_t width = 0, height = 0;   // pixels, multiples of 16
  std::optional<RopeMode> rope = {};    // empty keeps the package's setting
  std::optional<bool> globalSink = {};  // the same
};

// For sessions with these options; a width or height of 0 is the package's own. Reads the package's files but no large weights. Throws
// InvalidArgument for what no such device does.
MemoryPlan planMemory(const LoadOptions& options, const SessionOptions& session = {});

// A prompt's text embeddings.
class Prompt {
 public:
  int64_t tokens = 0;
  std::vector<float> embeddings;  // [min(tokens + 1, textLen), textDim]; the last row is the zero padding row if it exists
};

struct Frames {
  int64_t firstFrame = 0;  // index of the first one in the session
  int64_t count = 0, width = 0, height = 0;
  std::span<const uint8_t> i420;  // planar, BT.709 limited range, frame after frame; valid until the next call
};

// One pass over the current block: denoise x steps, frames, context; then the next block.
struct Step {
  enum class Kind : uint8_t { Denoise, Frames, Context } kind = Kind::Denoise;
  int64_t block = 0;
  int64_t step = 0;  // denoising step, from 0
  double milliseconds = 0;
  Frames frames;  // kind Frames only
};

struct PromptChange {
  double milliseconds = 0;
  int64_t frames = 0;  // latent frames that were computed again
};

class Backend;
class Model;
class Package;

// After a call that failed with anything but InvalidArgument a session is lost: every further call throws with the same code.
class Session {
 public:
  ~Session();

  int64_t block() const;        // that the next step works on
  bool ended() const;           // absolute positions are used up: only a prompt with mode Clear begins another block
  size_t memoryBytes() const;

  // Must come before the first step. Only between blocks or after abandonBlock(); throws InvalidArgument otherwise.
  PromptChange setPrompt(const Prompt& prompt, RecacheMode mode);
  // Throws InvalidArgument without a prompt, and where absolute positions end (latent frame `ropeTableLength`).
  Step step();
  // Drops the denoising steps already taken of the current block, which will restart exactly as it began. Throws
  // InvalidArgument once the block's frames were returned.
  void abandonBlock();

  // Safetensors bytes: clean latents of sink and window, and counters. Only between blocks.
  std::vector<uint8_t> checkpoint() const;
  // RGB of the last decoded frames, [count, height, width, 3]; empty before the first.
  std::vector<uint8_t> lastRgb() const;

 private:
  friend class Model;
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class Model : public std::enable_shared_from_this<Model> {
 public:
  // Reads and checks the package. Throws InvalidPackage (naming file and tensor), Unavailable, InvalidArgument for a device that is not
  // there, and OutOfMemory, on a GPU before anything is loaded and saying what would fit.
  static std::shared_ptr<Model> load(const LoadOptions& options);
  ~Model();

  const std::string& configJson() const;  // config.json as it is in the package
  size_t weightBytes() const;
  int64_t maxPromptTokens() const;
  // Pieces of work so far that the driver refused to record, and which are launched call by call since. Any thread may ask.
  int64_t refusedRecordings() const;

  // Token ids as the package's tokenizer makes them, with the end token and without padding.
  std::shared_ptr<const Prompt> encodePrompt(std::span<const int32_t> ids) const;
  // The prompt that lies `share` of the way (0 to 1) from one to the other, both of this model's; no device takes part. Throws
  // InvalidArgument for others' prompts and shares.
  std::shared_ptr<const Prompt> blendPrompts(const Prompt& from, const Prompt& to, double share, BlendKind kind) const;
  std::unique_ptr<Session> createSession(const SessionOptions& options);
  // Goes on from checkpoint() bytes of the same package and size: rebuilds the KV cache by a recache under `prompt`, and the
  // decoder's history. Noise continues at the checkpoint's block under options.seed. Throws InvalidArgument if the bytes do
  // not fit, InvalidPackage if they are damaged.
  std::unique_ptr<Session> restoreSession(const SessionOptions& options, std::span<const uint8_t> checkpoint, const Prompt& prompt);

 private:
  friend class Session;
  friend struct ModelProbe;  // of tests
  friend MemoryPlan planMemory(const LoadOptions&, const SessionOptions&);
  struct Impl;
  // Throws OutOfMemory if the model and a session of its own size do not fit the device, as far as the device can tell.
  static void requireRoom(const Package& package, const LoadOptions& options, const Backend& backend);
  static MemoryPlan planOf(const Package& package, const LoadOptions& options, SessionOptions session);
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace longlive

// Latents to pictures. A DecoderModel holds a decoder's weights and is shared; a FrameDecoder is one video's stream with
// its temporal state, so that pictures join without a seam wherever the latents were cut into calls.
#pragma once

#include <memory>

#include "config.h"
#include "io/safetensors.h"
#include "ops.h"

namespace longlive {

class FrameDecoder {
 public:
  virtual ~FrameDecoder() = default;

  // Forgets all history: the next latent is the first of a video.
  virtual void reset() = 0;

  // Decodes the next n latents [n, zDim, h, w] F32 (normalised, as the DiT makes them; 1 <= n <= maxLatents) into
  // rgb [framesFor(n), 8h, 8w, 3] and returns framesFor(n). rgb is U8, or F32 for the values before they are clamped
  // (WanVae: [-1, 1], TinyVae: [0, 1]). Allocates nothing.
  virtual int64_t decode(const Tensor& latents, const Tensor& rgb) = 0;

  // Leaves what decode() would leave behind, to the bit, without making all of the pictures: for latents that were shown
  // elsewhere. rgb has room for the frames of one latent; what is in it then means nothing.
  virtual void warm(const Tensor& latents, const Tensor& rgb) = 0;

  // Frames that the next n latents give: 1 + 4(n - 1) at the start of a video, then 4n.
  virtual int64_t framesFor(int64_t n) const = 0;

  virtual size_t memoryBytes() const = 0;
};

class DecoderModel {
 public:
  virtual ~DecoderModel() = default;
  // All buffers of the stream are allocated here.
  virtual std::unique_ptr<FrameDecoder> createStream(int64_t latentHeight, int64_t latentWidth, int64_t maxLatents) = 0;
  virtual size_t weightBytes() const = 0;
};

// vae.cpp: the decoder half of vae.safetensors (encoder tensors are checked by name and skipped). `prefix` as in
// WeightReader. Throws Error{InvalidPackage} naming the tensor.
std::unique_ptr<DecoderModel> loadWanVae(Backend& backend, const VaeConfig& config, const SafeTensors& file,
                                         const std::string& prefix = "");
// tiny_vae.cpp: TAEHV.
std::unique_ptr<DecoderModel> loadTinyVae(Backend& backend, const TinyVaeConfig& config, const SafeTensors& file,
                                          const std::string& prefix = "");

}  // namespace longlive

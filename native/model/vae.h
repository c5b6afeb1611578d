// The Wan video autoencoder (spec section 7.1 to 7.6): 8x8 in space, 4x in time, causal. The decoder is declared in
// frame_decoder.h; here is the encoder, for clips that enter the model as latents.
#pragma once

#include <memory>

#include "config.h"
#include "io/safetensors.h"
#include "ops.h"

namespace longlive {

class VideoEncoder {
 public:
  virtual ~VideoEncoder() = default;

  // Latents of a clip of `frames` pictures: 1 + (frames - 1) / 4; trailing pictures that fill no group of four are unused.
  static int64_t latentsFor(int64_t frames) { return frames > 0 ? 1 + (frames - 1) / 4 : 0; }

  // video [T, 3, H, W] F32 in [-1, 1], H and W multiples of the spatial stride -> latents [latentsFor(T), zDim, h, w] F32:
  // the mean of the posterior, normalised by the package's statistics. Allocates working memory when the size changes.
  virtual void encode(const Tensor& latents, const Tensor& video) = 0;
};

// The encoder half of vae.safetensors. Throws Error{InvalidPackage} naming the tensor.
std::unique_ptr<VideoEncoder> loadWanVaeEncoder(Backend& backend, const VaeConfig& config, const SafeTensors& file,
                                                const std::string& prefix = "");

}  // namespace longlive

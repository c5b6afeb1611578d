// What the decoders of video (vae.cpp, tiny_vae.cpp) have in common: streams that decode latents one at a time, so that their memory does not
// depend on how many come at once, and the model that makes them.
#pragma once

#include <memory>
#include <utility>

#include "frame_decoder.h"
#include "volume_stream.h"

namespace longlive {

class LatentStream : public FrameDecoder {
 public:
  LatentStream(const VolumePlan& plan, int64_t framesPerLatent) : stream_(plan), framesPerLatent_(framesPerLatent) {}

  void reset() final { stream_.reset(); }
  size_t memoryBytes() const final { return stream_.memoryBytes(); }
  int64_t framesFor(int64_t n) const final { return framesPerLatent_ * n - (stream_.first && n > 0 ? framesPerLatent_ - 1 : 0); }

  int64_t decode(const Tensor& latents, const Tensor& rgb) final {
    int64_t done = 0;
    for (int64_t i = 0; i < latents.shape[0]; ++i) {
      const int64_t frames = framesFor(1);
      decodeLatent(latents.rows(i, 1), rgb.rows(done, frames));
      stream_.first = false;
      done += frames;
    }
    return done;
  }

  void warm(const Tensor& latents, const Tensor& rgb) final {
    for (int64_t i = 0; i < latents.shape[0]; ++i) {
      warmLatent(latents.rows(i, 1), latents.shape[0] - 1 - i, rgb.rows(0, framesFor(1)));
      stream_.first = false;
    }
  }

 protected:
  // One latent [1, zDim, h, w] to its frames, as decode().
  virtual void decodeLatent(const Tensor& latent, const Tensor& rgb) = 0;
  // The same for warm(), which brings so many more behind this one.
  virtual void warmLatent(const Tensor& latent, int64_t /*more*/, const Tensor& rgb) { decodeLatent(latent, rgb); }

  // Lets draw(pixels) give the frames in F32, about [-1, 1] or, `unit`, [0, 1], whatever rgb is.
  template <class Draw> void emit(const Tensor& rgb, bool unit, Draw draw) {
    const bool bytes = rgb.dtype == DType::U8;
    const Tensor pixels = bytes ? stream_.buffer(Role::Rgb, DType::F32, rgb.shape) : rgb;
    draw(pixels);
    if (bytes) stream_.backend().toRgb8(rgb, pixels, unit);
  }

  VolumeStream stream_;

 private:
  int64_t framesPerLatent_;
};

// Weights that are shared by the streams made of them.
template <class Stream, class Weights> class StreamedDecoder final : public DecoderModel {
 public:
  StreamedDecoder(Backend& backend, std::shared_ptr<const Weights> weights) : backend_(backend), weights_(std::move(weights)) {}

  std::unique_ptr<FrameDecoder> createStream(int64_t height, int64_t width, int64_t) override {
    return std::make_unique<Stream>(backend_, weights_, height, width);
  }
  size_t weightBytes() const override { return weights_->bytes; }

 private:
  Backend& backend_;
  std::shared_ptr<const Weights> weights_;
};

}  // namespace longlive

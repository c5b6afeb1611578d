// The Wan VAE's encoder, which nothing but tests uses: its golden cases hold the layers that it shares with the decoder against the reference.
//
//   downsample(x) = conv2d stride 2; with time: then conv (3,1,1) of stride 2 over (y0,y1,y2), (y2,y3,y4), ..., y0 kept
//   encode(v)     = (mu - mean) / std, mu = first half of conv1(head(middle(downsamples(conv1(v))))); 1 frame, then 4 each
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/wan_layers.h"

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

class Downsample final : public VideoLayer {
 public:
  Downsample(VolumeLoader& l, const std::string& name, int64_t dim, bool temporal)
      : dim_(dim), resample_(l.plain(name + ".resample.1", {dim, dim, 1, 3, 3}, {dim, dim, 3, 3})) {
    if (temporal) time_ = l.causal(name + ".time_conv", {dim, dim, 3, 1, 1});
  }

  Shape plan(VolumePlan& p, const Shape& x) const override {
    const Shape y{x[0], x[1] / 2, x[2] / 2, dim_};
    p.needConvInput(Role::ConvIn, x);
    if (!time_.weights) return y;
    p.needConvInput(Role::Side, y);
    p.history(time_, 1, y);
    return {(y[0] + 1) / 2, y[1], y[2], dim_};
  }

  Tensor run(VolumeStream& s, const Tensor& x) const override {
    const Tensor in = s.convInput(x.shape);
    const Shape shape{x.shape[0], x.shape[1] / 2, x.shape[2] / 2, dim_};
    s.backend().copy(in, x);
    const Tensor out = time_.weights ? s.buffer(Role::Side, s.backend().convType(), shape) : s.activation(Role::Main, shape);
    Backend::ConvArgs args;
    args.strideHW = 2, args.pad = Backend::ConvArgs::Pad::RightBottom;
    s.run(args, resample_, out, in);
    return time_.weights ? halveFrames(s, out) : out;
  }

 private:
  Tensor halveFrames(VolumeStream& s, const Tensor& y) const {
    const Tensor out = s.activation(Role::Main, {(y.shape[0] + 1) / 2, y.shape[1], y.shape[2], dim_});
    if (s.first) {
      s.backend().copy(out, y);
      s.remember(time_, y);
      return out;
    }
    Backend::ConvArgs args;
    args.causal = false, args.strideT = 2;
    s.run(args, time_, out, y);
    return out;
  }

  int64_t dim_;
  Conv resample_, time_;
};

class WanVaeEncoder final : public VideoEncoder {
 public:
  WanVaeEncoder(VolumeLoader& l, const VaeConfig& c)
      : backend_(l.backend()), config_(c), conv1_(l.causal("encoder.conv1", {c.dim, 3, 3, 3, 3})) {
    const int64_t width = appendDownsamples(l);
    appendMiddle(layers_, l, "encoder.middle", width);
    head_ = std::make_unique<Head>(l, "encoder.head", width, 2 * c.zDim);
    loadMean(l);
    std::vector<float> mul(c.zDim), add(c.zDim);
    for (int64_t i = 0; i < c.zDim; ++i) mul[i] = 1.0f / c.std[i], add[i] = -c.mean[i] / c.std[i];
    mul_ = DeviceVector(backend_, mul), add_ = DeviceVector(backend_, add);
    slots_ = l.slots();
  }

  void encode(const Tensor& latents, const Tensor& video) override {
    prepare(video.shape);
    stream_->reset();
    const int64_t group = temporalStride(config_), count = latents.shape[0];
    for (int64_t i = 0; i < count; ++i) {
      const Tensor frames = i == 0 ? video.rows(0, 1) : video.rows(1 + (i - 1) * group, group);
      encodeGroup(latents.rows(i, 1), frames);
      stream_->first = false;
    }
  }

 private:
  int64_t appendDownsamples(VolumeLoader& l) {
    const int64_t stages = static_cast<int64_t>(config_.dimMult.size());
    int64_t in = config_.dim, index = 0;
    auto name = [&] { return "encoder.downsamples." + std::to_string(index++); };
    for (int64_t stage = 0; stage < stages; ++stage) {
      const int64_t out = config_.dim * config_.dimMult[stage];
      for (int64_t i = 0; i < config_.numResBlocks; ++i, in = out)
        layers_.push_back(std::make_unique<ResidualBlock>(l, name(), in, out));
      if (stage + 1 < stages)
        layers_.push_back(std::make_unique<Downsample>(l, name(), out, config_.temporalDownsample[stage]));
    }
    return in;
  }

  // The last 1x1 convolution gives mean and log-variance; only the mean's rows are kept.
  void loadMean(VolumeLoader& l) {
    const int64_t z = config_.zDim;
    std::vector<float> weight = l.reader().read("conv1.weight", {2 * z, 2 * z, 1, 1, 1});
    const std::vector<float> bias = l.reader().read("conv1.bias", {2 * z});
    weight.resize(z * 2 * z);
    mean_ = l.pack(weight, bias.data(), {z, 2 * z, 1, 1, 1}, true);
  }

  void prepare(const Shape& video) {
    const Shape size{video[2], video[3]};
    if (stream_ && size == size_) return;
    VolumePlan p(backend_, slots_);
    const Shape pixels{temporalStride(config_), video[2], video[3], 3};
    p.needConvInput(Role::ConvIn, pixels);
    p.history(conv1_, 2, pixels);
    const Shape x = planLayers(layers_, p, with(pixels, config_.dim));
    head_->plan(p, x);
    p.needInputOf(mean_, Role::Side, with(x, 2 * config_.zDim));
    p.needActivation(Role::Skip, with(x, config_.zDim));
    stream_ = std::make_unique<VolumeStream>(p);
    size_ = size;
  }

  void encodeGroup(const Tensor& latent, const Tensor& frames) {
    VolumeStream& s = *stream_;
    const Shape shape{frames.shape[0], frames.shape[2], frames.shape[3], 3};
    const Tensor pixels = s.convInput(shape);
    backend_.permute(ChannelOrder::Last, pixels, frames, {}, {});
    Tensor x = s.activation(Role::Main, with(shape, config_.dim));
    s.run({}, conv1_, x, pixels);
    x = runLayers(layers_, s, x);
    const Tensor moments = s.inputOf(mean_, Role::Side, with(x.shape, 2 * config_.zDim));
    head_->run(s, moments, x);
    const Tensor mean = s.activation(Role::Skip, with(x.shape, config_.zDim));
    s.run({}, mean_, mean, moments);
    backend_.permute(ChannelOrder::First, latent, mean, mul_.tensor(), add_.tensor());
  }

  Backend& backend_;
  VaeConfig config_;
  Conv conv1_;
  Layers layers_;
  std::unique_ptr<Head> head_;
  Conv mean_;
  DeviceVector mul_, add_;
  int slots_ = 0;
  Shape size_;
  std::unique_ptr<VolumeStream> stream_;
};

// The encoder half of vae.safetensors. Throws Error{InvalidPackage} naming the tensor.
inline std::unique_ptr<VideoEncoder> loadWanVaeEncoder(Backend& backend, const VaeConfig& config, const SafeTensors& file,
                                                       const std::string& prefix = "") {
  WeightReader reader(file, prefix);
  VolumeLoader loader(backend, reader);
  auto encoder = std::make_unique<WanVaeEncoder>(loader, config);
  reader.ignore("decoder.");
  reader.ignore("conv2.");
  reader.finish();
  return encoder;
}

}  // namespace longlive

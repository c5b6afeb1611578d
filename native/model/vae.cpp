// The Wan VAE's decoder (spec 7.1 to 7.6), of the layers of wan_layers.h. Volumes are channels-last, [T, H, W, C].
//
//   upsample(x)   = conv2d(nearest2x(x)); with time: first x -> even and odd frames of time_conv(x), but the very first
//                   frame of a video passes unchanged and is not left context of the later ones (7.4)
//   decode(z)     = head(upsamples(middle(conv1(conv2(z * std + mean)))))  one latent at a time: 1 frame, then 4 each
#include <utility>
#include <vector>

#include "latent_stream.h"
#include "wan_layers.h"

namespace longlive {
namespace {

class Upsample final : public VideoLayer {
 public:
  static constexpr Look look(bool temporal) { return {temporal ? 2 : 0, temporal}; }

  Upsample(VolumeLoader& l, const std::string& name, int64_t dim, bool temporal)
      : dim_(dim), resample_(l.plain(name + ".resample.1", {dim / 2, dim, 1, 3, 3}, {dim / 2, dim, 3, 3}, true)) {
    if (temporal) time_ = l.causal(name + ".time_conv", {2 * dim, dim, 3, 1, 1});
  }

  Shape plan(VolumePlan& p, const Shape& x) const override {
    Shape y = x;
    p.needConvInput(Role::ConvIn, x);
    if (time_.weights) {
      y = {2 * x[0], x[1], x[2], dim_};
      p.needConvInput(Role::Side, y);
      p.needConvInput(Role::ConvIn, y);
      p.history(time_, 2, x);
    }
    return {y[0], 2 * y[1], 2 * y[2], dim_ / 2};
  }

  Tensor run(VolumeStream& s, const Tensor& x) const override {
    Tensor in = s.convInput(x.shape);
    s.backend().copy(in, x);
    if (time_.weights && !s.first) in = doubleFrames(s, in);
    const Tensor out = s.activation(Role::Main, {in.shape[0], 2 * in.shape[1], 2 * in.shape[2], dim_ / 2});
    Backend::ConvArgs args;
    args.upsample2x = true;
    s.run(args, resample_, out, in);
    return out;
  }

 private:
  Tensor doubleFrames(VolumeStream& s, const Tensor& in) const {
    const Tensor pairs = s.buffer(Role::Side, s.backend().convType(), with(in.shape, 2 * dim_));
    s.run({}, time_, pairs, in);
    const Tensor out = s.convInput({2 * in.shape[0], in.shape[1], in.shape[2], dim_});
    s.backend().splitTime(out, pairs, 2);
    return out;
  }

  int64_t dim_;
  Conv resample_, time_;
};

// ---- decoder ----------------------------------------------------------------------------------------------------------

struct WanDecoderWeights {
  WanDecoderWeights(VolumeLoader& l, const VaeConfig& c)
      : config(c),
        mean(l.backend(), c.mean),
        std(l.backend(), c.std),
        conv2(l.causal("conv2", {c.zDim, c.zDim, 1, 1, 1}, true)),
        top(c.dim * c.dimMult.back()),
        conv1(l.causal("decoder.conv1", {top, c.zDim, 3, 3, 3}, true)) {
    appendMiddle(layers, l, "decoder.middle", top);
    std::vector<Look> looks = {ResidualBlock::kLook, AttentionBlock::kLook, ResidualBlock::kLook};
    const int64_t width = appendUpsamples(l, looks);
    head = std::make_unique<Head>(l, "decoder.head", width, 3);
    newest = newestLatents(looks);
  }

  // Stages from the deepest to the shallowest; every up-sampling halves the channels that it hands on.
  int64_t appendUpsamples(VolumeLoader& l, std::vector<Look>& looks) {
    const int64_t stages = static_cast<int64_t>(config.dimMult.size());
    int64_t in = top, index = 0;
    auto name = [&] { return "decoder.upsamples." + std::to_string(index++); };
    for (int64_t stage = stages - 1; stage >= 0; --stage) {
      const int64_t out = config.dim * config.dimMult[stage];
      for (int64_t i = 0; i <= config.numResBlocks; ++i, in = out) {
        layers.push_back(std::make_unique<ResidualBlock>(l, name(), in, out));
        looks.push_back(ResidualBlock::kLook);
      }
      if (stage == 0) continue;
      const bool temporal = config.temporalDownsample[stage - 1];
      layers.push_back(std::make_unique<Upsample>(l, name(), out, temporal));
      looks.push_back(Upsample::look(temporal));
      in = out / 2;
    }
    return in;
  }

  // By layer, and of the head behind them, the newest latents that decide what it and all after it remember.
  std::vector<int64_t> newestLatents(const std::vector<Look>& looks) const {
    int64_t framesPerLatent = temporalStride(config), frames = 2;  // the head remembers two
    const auto latents = [&] { return (frames + framesPerLatent - 1) / framesPerLatent; };
    std::vector<int64_t> result(looks.size() + 1, latents());
    for (size_t i = looks.size(); i-- > 0;) {
      if (looks[i].doubles) framesPerLatent /= 2, frames = (frames + 1) / 2;
      frames += looks[i].back;
      result[i] = latents();
    }
    return result;
  }

  VaeConfig config;
  DeviceVector mean, std;
  Conv conv2;
  int64_t top;
  Conv conv1;
  Layers layers;
  std::vector<int64_t> newest;  // newestLatents()
  std::unique_ptr<Head> head;
  int slots = 0;
  size_t bytes = 0;
};

class WanVaeStream final : public LatentStream {
 public:
  WanVaeStream(Backend& backend, std::shared_ptr<const WanDecoderWeights> weights, int64_t height, int64_t width)
      : LatentStream(plan(backend, *weights, height, width), temporalStride(weights->config)), weights_(std::move(weights)) {}

 private:
  static VolumePlan plan(Backend& backend, const WanDecoderWeights& w, int64_t height, int64_t width) {
    VolumePlan p(backend, w.slots);
    const Shape latent{1, height, width, w.config.zDim};
    p.needInputOf(w.conv2, Role::ConvIn, latent);
    p.needInputOf(w.conv1, Role::Side, latent);
    p.history(w.conv1, 2, latent);
    const Shape x = planLayers(w.layers, p, with(latent, w.top));
    w.head->plan(p, x);
    p.need(Role::Rgb, DType::F32, with(x, 3));
    return p;
  }

  void decodeLatent(const Tensor& latent, const Tensor& rgb) override {
    const Tensor x = runLayers(weights_->layers, stream_, begin(latent));
    emit(rgb, false, [&](const Tensor& pixels) { weights_->head->run(stream_, pixels, x); });
  }

  // The larger its pictures, the fewer latents a layer has to see again.
  void warmLatent(const Tensor& latent, int64_t more, const Tensor& rgb) override {
    const std::vector<int64_t>& newest = weights_->newest;
    if (more < newest.back()) return decodeLatent(latent, rgb);
    Tensor x = begin(latent);
    for (size_t i = 0; i < weights_->layers.size() && more < newest[i]; ++i) x = weights_->layers[i]->run(stream_, x);
  }

  Tensor begin(const Tensor& latent) {
    Backend& b = stream_.backend();
    const WanDecoderWeights& w = *weights_;
    const Shape shape{1, latent.shape[2], latent.shape[3], w.config.zDim};
    const Tensor z = stream_.inputOf(w.conv2, Role::ConvIn, shape), z2 = stream_.inputOf(w.conv1, Role::Side, shape);
    b.permute(ChannelOrder::Last, z, latent, w.std.tensor(), w.mean.tensor());
    stream_.run({}, w.conv2, z2, z);
    const Tensor x = stream_.activation(Role::Main, with(shape, w.top));
    stream_.run({}, w.conv1, x, z2);
    return x;
  }

  std::shared_ptr<const WanDecoderWeights> weights_;
};

}  // namespace

std::unique_ptr<DecoderModel> loadWanVae(Backend& backend, const VaeConfig& config, const SafeTensors& file,
                                         const std::string& prefix) {
  WeightReader reader(file, prefix);
  VolumeLoader loader(backend, reader, config.eightBit);
  auto weights = std::make_shared<WanDecoderWeights>(loader, config);
  weights->slots = loader.slots(), weights->bytes = loader.bytes();
  reader.ignore("encoder.");
  reader.ignore("conv1.");
  reader.finish();
  return std::make_unique<StreamedDecoder<WanVaeStream, WanDecoderWeights>>(backend, std::move(weights));
}

}  // namespace longlive

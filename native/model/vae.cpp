// Wan VAE (spec 7.1 to 7.6). Volumes are channels-last, [T, H, W, C].
//
//   norm(x)       = x / max(||x||, 1e-12) * sqrt(C) * gamma               over channels
//   residual(x)   = conv2(silu(norm2(conv1(silu(norm1(x)))))) + shortcut(x)   convs 3x3x3, causal in time
//   attention(x)  = x + proj(softmax(q k^T / sqrt(C)) v)                  per frame, one head; q, k, v of norm(x)
//   upsample(x)   = conv2d(nearest2x(x)); with time: first x -> even and odd frames of time_conv(x), but the very first
//                   frame of a video passes unchanged and is not left context of the later ones (7.4)
//   downsample(x) = conv2d stride 2; with time: then conv (3,1,1) of stride 2 over (y0,y1,y2), (y2,y3,y4), ..., y0 kept
//   decode(z)     = head(upsamples(middle(conv1(conv2(z * std + mean)))))  one latent at a time: 1 frame, then 4 each
//   encode(v)     = (mu - mean) / std, mu = first half of conv1(head(middle(downsamples(conv1(v))))); 1 frame, then 4 each
#include "vae.h"

#include <cmath>
#include <utility>
#include <vector>

#include "latent_stream.h"

namespace longlive {
namespace {

Shape with(const Shape& s, int64_t channels) { return {s[0], s[1], s[2], channels}; }

// ---- layers -----------------------------------------------------------------------------------------------------------

// A layer reads and writes Role::Main. plan() turns the largest input shape into the output's and says what memory the
// layer needs beside Main; run() returns the output.
class VideoLayer {
 public:
  virtual ~VideoLayer() = default;
  virtual Shape plan(VolumePlan& plan, const Shape& x) const = 0;
  virtual Tensor run(VolumeStream& s, const Tensor& x) const = 0;
};

// How many input frames a layer of the decoder looks back, and whether it makes two of each.
struct Look { int64_t back; bool doubles; };

class ResidualBlock final : public VideoLayer {
 public:
  static constexpr Look kLook{4, false};  // two convolutions, which remember two frames each

  ResidualBlock(VolumeLoader& l, const std::string& name, int64_t in, int64_t out)
      : out_(out),
        norm1_(l.vector(name + ".residual.0.gamma", {in, 1, 1, 1})),
        conv1_(l.causal(name + ".residual.2", {out, in, 3, 3, 3})),
        norm2_(l.vector(name + ".residual.3.gamma", {out, 1, 1, 1})),
        conv2_(l.causal(name + ".residual.6", {out, out, 3, 3, 3})) {
    if (in != out) shortcut_ = l.causal(name + ".shortcut", {out, in, 1, 1, 1});
  }

  Shape plan(VolumePlan& p, const Shape& x) const override {
    const Shape y = with(x, out_);
    p.needConvInput(Role::ConvIn, x);
    p.needConvInput(Role::ConvIn, y);
    p.needActivation(Role::Side, y);
    if (shortcut_.weights) p.needActivation(Role::Skip, y);
    p.history(conv1_, 2, x);
    p.history(conv2_, 2, y);
    return y;
  }

  Tensor run(VolumeStream& s, const Tensor& x) const override {
    const Shape shape = with(x.shape, out_);
    const Tensor skip = shortcut_.weights ? shortcut(s, x) : x;
    const Tensor in = s.convInput(x.shape), middle = s.activation(Role::Side, shape), in2 = s.convInput(shape);
    s.backend().channelNorm(in, x, norm1_.tensor(), Activation::Silu);
    s.run({}, conv1_, middle, in);
    s.backend().channelNorm(in2, middle, norm2_.tensor(), Activation::Silu);
    const Tensor out = s.activation(Role::Main, shape);
    Backend::ConvArgs args;
    args.residual = skip;
    s.run(args, conv2_, out, in2);
    return out;
  }

 private:
  Tensor shortcut(VolumeStream& s, const Tensor& x) const {
    const Tensor in = s.convInput(x.shape), out = s.activation(Role::Skip, with(x.shape, out_));
    s.backend().copy(in, x);
    s.run({}, shortcut_, out, in);
    return out;
  }

  int64_t out_;
  DeviceVector norm1_;
  Conv conv1_;
  DeviceVector norm2_;
  Conv conv2_, shortcut_;
};

class AttentionBlock final : public VideoLayer {
 public:
  static constexpr Look kLook{0, false};

  AttentionBlock(VolumeLoader& l, const std::string& name, int64_t dim)
      : dim_(dim), norm_(l.vector(name + ".norm.gamma", {dim, 1, 1})) {
    const std::vector<float> weight = l.reader().read(name + ".to_qkv.weight", {3 * dim, dim, 1, 1});
    const std::vector<float> bias = l.reader().read(name + ".to_qkv.bias", {3 * dim});
    for (int64_t i = 0; i < 3; ++i) qkv_[i] = linear(l, weight.data() + i * dim * dim, bias.data() + i * dim);
    proj_ = linear(l, l.reader().read(name + ".proj.weight", {dim, dim, 1, 1}).data(),
                   l.reader().read(name + ".proj.bias", {dim}).data());
  }

  Shape plan(VolumePlan& p, const Shape& x) const override {
    for (Role role : {Role::Side, Role::Query, Role::Key, Role::Value}) p.need(role, p.backend().activationType(), x);
    return x;
  }

  Tensor run(VolumeStream& s, const Tensor& x) const override {
    Backend& b = s.backend();
    const int64_t rows = x.elements() / dim_, perFrame = rows / x.shape[0];
    const DType type = b.activationType();
    const Tensor norm = s.buffer(Role::Side, type, x.shape), tokens = norm.view({rows, dim_});
    b.channelNorm(norm, x, norm_.tensor(), Activation::None);
    constexpr Role roles[3] = {Role::Query, Role::Key, Role::Value};
    Tensor qkv[3];
    for (int i = 0; i < 3; ++i) {
      qkv[i] = s.buffer(roles[i], type, {rows, dim_});
      b.linear(qkv[i], tokens, *qkv_[i]);
    }
    for (int64_t t = 0; t < x.shape[0]; ++t) {
      const KeyRange frame{t * perFrame, perFrame};
      AttentionArgs a;
      a.out = tokens.rows(t * perFrame, perFrame), a.q = qkv[0].rows(t * perFrame, perFrame);
      a.k = qkv[1], a.v = qkv[2], a.visible = {&frame, 1};
      a.scale = 1.0f / std::sqrt(static_cast<float>(dim_));
      b.attention(a);
    }
    Epilogue residual;
    residual.residual = x.view({rows, dim_});
    b.linear(x.view({rows, dim_}), tokens, *proj_, residual);
    return x;
  }

 private:
  std::unique_ptr<LinearWeights> linear(VolumeLoader& l, const float* weight, const float* bias) const {
    auto linear = l.backend().prepareLinear(weight, bias, dim_, dim_, true);
    l.countBytes(linear->bytes);
    return linear;
  }

  int64_t dim_;
  DeviceVector norm_;
  std::unique_ptr<LinearWeights> qkv_[3], proj_;
};

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

// SiLU(norm(x)) and a 3x3x3 convolution to `out` channels: the end of either half.
class Head {
 public:
  Head(VolumeLoader& l, const std::string& name, int64_t in, int64_t out)
      : norm_(l.vector(name + ".0.gamma", {in, 1, 1, 1})), conv_(l.causal(name + ".2", {out, in, 3, 3, 3})) {}

  void plan(VolumePlan& p, const Shape& x) const {
    p.needConvInput(Role::ConvIn, x);
    p.history(conv_, 2, x);
  }

  void run(VolumeStream& s, const Tensor& out, const Tensor& x) const {
    const Tensor in = s.convInput(x.shape);
    s.backend().channelNorm(in, x, norm_.tensor(), Activation::Silu);
    s.run({}, conv_, out, in);
  }

 private:
  DeviceVector norm_;
  Conv conv_;
};

using Layers = std::vector<std::unique_ptr<VideoLayer>>;

void appendMiddle(Layers& layers, VolumeLoader& l, const std::string& name, int64_t dim) {
  layers.push_back(std::make_unique<ResidualBlock>(l, name + ".0", dim, dim));
  layers.push_back(std::make_unique<AttentionBlock>(l, name + ".1", dim));
  layers.push_back(std::make_unique<ResidualBlock>(l, name + ".2", dim, dim));
}

Shape planLayers(const Layers& layers, VolumePlan& p, Shape x) {
  p.needActivation(Role::Main, x);
  for (const auto& layer : layers) {
    x = layer->plan(p, x);
    p.needActivation(Role::Main, x);
  }
  return x;
}

Tensor runLayers(const Layers& layers, VolumeStream& s, Tensor x) {
  for (const auto& layer : layers) x = layer->run(s, x);
  return x;
}

// Pictures per latent after the first.
int64_t temporalStride(const VaeConfig& c) {
  int64_t stride = 1;
  for (bool down : c.temporalDownsample) stride *= down ? 2 : 1;
  return stride;
}

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

// ---- encoder ----------------------------------------------------------------------------------------------------------

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

}  // namespace

std::unique_ptr<DecoderModel> loadWanVae(Backend& backend, const VaeConfig& config, const SafeTensors& file,
                                         const std::string& prefix) {
  WeightReader reader(file, prefix);
  VolumeLoader loader(backend, reader);
  auto weights = std::make_shared<WanDecoderWeights>(loader, config);
  weights->slots = loader.slots(), weights->bytes = loader.bytes();
  reader.ignore("encoder.");
  reader.ignore("conv1.");
  reader.finish();
  return std::make_unique<StreamedDecoder<WanVaeStream, WanDecoderWeights>>(backend, std::move(weights));
}

std::unique_ptr<VideoEncoder> loadWanVaeEncoder(Backend& backend, const VaeConfig& config, const SafeTensors& file,
                                                const std::string& prefix) {
  WeightReader reader(file, prefix);
  VolumeLoader loader(backend, reader);
  auto encoder = std::make_unique<WanVaeEncoder>(loader, config);
  reader.ignore("decoder.");
  reader.ignore("conv2.");
  reader.finish();
  return encoder;
}

}  // namespace longlive

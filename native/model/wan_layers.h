// What either half of the Wan VAE is made of (spec 7.1 to 7.3). Volumes are channels-last, [T, H, W, C].
//
//   norm(x)       = x / max(||x||, 1e-12) * sqrt(C) * gamma               over channels
//   residual(x)   = conv2(silu(norm2(conv1(silu(norm1(x)))))) + shortcut(x)   convs 3x3x3, causal in time
//   attention(x)  = x + proj(softmax(q k^T / sqrt(C)) v)                  per frame, one head; q, k, v of norm(x)
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "config.h"
#include "volume_stream.h"

namespace longlive {

inline Shape with(const Shape& s, int64_t channels) { return {s[0], s[1], s[2], channels}; }

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
        norm1_(l.norm(name + ".residual.0.gamma", {in, 1, 1, 1})),
        conv1_(l.causal(name + ".residual.2", {out, in, 3, 3, 3}, false, norm1_.silu)),
        norm2_(l.norm(name + ".residual.3.gamma", {out, 1, 1, 1})),
        conv2_(l.causal(name + ".residual.6", {out, out, 3, 3, 3}, false, norm2_.silu)) {
    if (in != out) shortcut_ = l.causal(name + ".shortcut", {out, in, 1, 1, 1});
  }

  Shape plan(VolumePlan& p, const Shape& x) const override {
    const Shape y = with(x, out_);
    p.needInputOf(conv1_, Role::ConvIn, x);
    p.needInputOf(conv2_, Role::ConvIn, y);
    p.needActivation(Role::Side, y);
    if (shortcut_.weights) p.needInputOf(shortcut_, Role::ConvIn, x), p.needActivation(Role::Skip, y);
    p.history(conv1_, 2, x);
    p.history(conv2_, 2, y);
    return y;
  }

  Tensor run(VolumeStream& s, const Tensor& x) const override {
    const Shape shape = with(x.shape, out_);
    const Tensor skip = shortcut_.weights ? shortcut(s, x) : x;
    const Tensor middle = s.activation(Role::Side, shape);
    s.run({}, conv1_, middle, normed(s, norm1_, conv1_, x));
    const Tensor in2 = normed(s, norm2_, conv2_, middle);
    const Tensor out = s.activation(Role::Main, shape);
    Backend::ConvArgs args;
    args.residual = skip;
    s.run(args, conv2_, out, in2);
    return out;
  }

 private:
  // What the convolution reads: SiLU of the norm.
  static Tensor normed(VolumeStream& s, const Norm& norm, const Conv& conv, const Tensor& x) {
    const Tensor in = s.inputOf(conv, Role::ConvIn, x.shape);
    s.backend().channelNorm(in, x, norm.gamma.tensor(), Activation::Silu, conv.weights->code);
    return in;
  }

  Tensor shortcut(VolumeStream& s, const Tensor& x) const {
    const Tensor in = s.convInput(x.shape), out = s.activation(Role::Skip, with(x.shape, out_));
    s.backend().copy(in, x);
    s.run({}, shortcut_, out, in);
    return out;
  }

  int64_t out_;
  Norm norm1_;
  Conv conv1_;
  Norm norm2_;
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

inline void appendMiddle(Layers& layers, VolumeLoader& l, const std::string& name, int64_t dim) {
  layers.push_back(std::make_unique<ResidualBlock>(l, name + ".0", dim, dim));
  layers.push_back(std::make_unique<AttentionBlock>(l, name + ".1", dim));
  layers.push_back(std::make_unique<ResidualBlock>(l, name + ".2", dim, dim));
}

inline Shape planLayers(const Layers& layers, VolumePlan& p, Shape x) {
  p.needActivation(Role::Main, x);
  for (const auto& layer : layers) {
    x = layer->plan(p, x);
    p.needActivation(Role::Main, x);
  }
  return x;
}

inline Tensor runLayers(const Layers& layers, VolumeStream& s, Tensor x) {
  for (const auto& layer : layers) x = layer->run(s, x);
  return x;
}

// Pictures per latent after the first.
inline int64_t temporalStride(const VaeConfig& c) {
  int64_t stride = 1;
  for (bool down : c.temporalDownsample) stride *= down ? 2 : 1;
  return stride;
}

}  // namespace longlive

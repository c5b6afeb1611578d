// TAEHV, the tiny decoder (spec 7.7). Volumes are channels-last, [T, H, W, C]; the input are normalised latents.
//
//   clamp(x)    = 3 tanh(x / 3)
//   memory(x)   = relu(c4(relu(c2(relu(c0([x_t ; x_{t-1}]))))) + x)   3x3 convolutions; x_{-1} = 0
//   grow_k(x)   = 1x1 convolution to k n channels without bias; slice j of frame t becomes frame k t + j
//   decode(z)   = conv(relu(stage3(stage2(stage1(relu(conv(clamp(z))))))))   4 frames per latent, values about [0, 1]
//   stage(x)    = conv(grow_k(nearest2x(memory(memory(memory(x))))))         without bias; k = 1, 2, 2
//   `transposed`: a transposed convolution (4x4, stride 2, padding 1) to k n channels takes the place of nearest2x, grow_k and conv
//   with `patch` p = 2 the last stage leaves out nearest2x, and the last convolution's 3 p p channels are the pixels of squares of p x p
//
// Two rewrites, exact in real arithmetic:
//  * c0 over the pair [x_t ; x_{t-1}] is a convolution with two taps in time over x, so the stream's ordinary history
//    of one frame is the memory;
//  * grow_k and the convolution after it are linear, so their product is one 3x3 convolution per slice j; the widened
//    volume is never made.
// The first 3 frames of a video are dropped, so that both decoders give as many: 1 for the first latent, then 4 each.
#include <algorithm>
#include <utility>

#include "latent_stream.h"
#include "longlive/error.h"

namespace longlive {
namespace {

constexpr int64_t kFirstStage = 3, kLayersPerStage = 6;  // module indices in the reference

std::string layerName(int64_t index) { return "decoder." + std::to_string(index); }

// [n, 2n, 3, 3] over channels [x ; past] -> [n, n, 2, 3, 3] over time (past, x).
std::vector<float> pairToTime(const std::vector<float>& w, int64_t n) {
  std::vector<float> out(w.size());
  for (int64_t o = 0; o < n; ++o)
    for (int64_t i = 0; i < 2 * n; ++i)
      for (int64_t k = 0; k < 9; ++k) out[((o * n + i % n) * 2 + (i < n ? 1 : 0)) * 9 + k] = w[(o * 2 * n + i) * 9 + k];
  return out;
}

// Rows [3, p, p] of a weight or bias (channel, y, x) -> [p, p, 3], as pixels lie in memory.
std::vector<float> pixelsFirst(const std::vector<float>& w, int64_t p) {
  const int64_t pixels = p * p, row = static_cast<int64_t>(w.size()) / (3 * pixels);
  std::vector<float> out(w.size());
  for (int64_t k = 0; k < 3; ++k)
    for (int64_t i = 0; i < pixels; ++i) std::copy_n(w.begin() + (k * pixels + i) * row, row, out.begin() + (i * 3 + k) * row);
  return out;
}

class MemoryBlock {
 public:
  MemoryBlock(VolumeLoader& l, const std::string& name, int64_t n)
      : c2_(l.plain(name + ".conv.2", {n, n, 1, 3, 3}, {n, n, 3, 3})),
        c4_(l.plain(name + ".conv.4", {n, n, 1, 3, 3}, {n, n, 3, 3})) {
    const std::vector<float> weight = l.reader().read(name + ".conv.0.weight", {n, 2 * n, 3, 3});
    c0_ = l.pack(pairToTime(weight, n), l.reader().read(name + ".conv.0.bias", {n}).data(), {n, n, 2, 3, 3});
    c0_.slot = l.nextSlot();
  }

  void plan(VolumePlan& p, const Shape& x) const {
    p.needConvInput(Role::Side, x);
    p.needConvInput(Role::Skip, x);
    p.history(c0_, 1, x);
  }

  // In place over x, which lies in Role::Main.
  void run(VolumeStream& s, const Tensor& x) const {
    const Tensor a = s.buffer(Role::Side, x.dtype, x.shape), b = s.buffer(Role::Skip, x.dtype, x.shape);
    Backend::ConvArgs relu;
    relu.activation = Activation::Relu;
    s.run(relu, c0_, a, x);
    s.run(relu, c2_, b, a);
    relu.residual = x, relu.activationAfterResidual = true;
    s.run(relu, c4_, x, b);
  }

 private:
  Conv c0_, c2_, c4_;
};

// Doubles height and width (if it should), multiplies frames by k and changes the channels: nearest2x, grow_k and conv as k convolutions.
class Grow {
 public:
  struct Sizes { int64_t in, out, k; bool upsample2x, transposed; };

  Grow(VolumeLoader& l, int64_t index, const Sizes& sizes, Activation activation)
      : out_(sizes.out), scale_(sizes.upsample2x ? 2 : 1), activation_(activation) {
    const auto [in, out, k, upsample2x, transposed] = sizes;
    if (transposed && upsample2x) {
      const std::vector<float> weight = l.reader().read(layerName(index + 1) + ".weight", {in, k * out, 4, 4});
      for (int64_t j = 0; j < k; ++j) slices_.push_back(l.pack(transposedSlice(weight, in, out, k, j), nullptr, {out, in, 1, 4, 4}, false, true));
      return;
    }
    const std::vector<float> grow = readGrow(l.reader(), layerName(index) + ".conv.weight", in, k);
    const std::vector<float> conv = l.reader().read(layerName(index + 1) + ".weight", {out, in, 3, 3});
    for (int64_t j = 0; j < k; ++j)
      slices_.push_back(l.pack(product(conv, grow.data() + j * in * in, out, in), nullptr, {out, in, 1, 3, 3}, false, upsample2x));
  }

  Shape plan(VolumePlan& p, const Shape& x) const {
    p.needConvInput(Role::Side, x);
    return {x[0] * static_cast<int64_t>(slices_.size()), scale_ * x[1], scale_ * x[2], out_};
  }

  Tensor run(VolumeStream& s, const Tensor& x) const {
    const int64_t k = static_cast<int64_t>(slices_.size());
    const Tensor in = s.buffer(Role::Side, x.dtype, x.shape);  // the output takes the input's place
    s.backend().copy(in, x);
    const Tensor out = s.buffer(Role::Main, x.dtype, {k * x.shape[0], scale_ * x.shape[1], scale_ * x.shape[2], out_});
    Backend::ConvArgs args;
    args.upsample2x = scale_ == 2, args.activation = activation_;
    if (k == 1) s.run(args, slices_[0], out, in);
    else
      for (int64_t f = 0; f < out.shape[0]; ++f) s.run(args, slices_[f % k], out.rows(f, 1), in.rows(f / k, 1));
    return out;
  }

 private:
  // Only the last k * n rows of a stored weight count.
  static std::vector<float> readGrow(WeightReader& reader, const std::string& name, int64_t n, int64_t k) {
    const int64_t rows = std::max(reader.shape(name)[0], k * n);
    const std::vector<float> w = reader.read(name, {rows, n, 1, 1});
    return {w.end() - k * n * n, w.end()};
  }

  // [in, k * out, 4, 4] -> slice j as [out, in, 4, 4].
  static std::vector<float> transposedSlice(const std::vector<float>& w, int64_t in, int64_t out, int64_t k, int64_t j) {
    constexpr int64_t taps = 16;
    std::vector<float> slice(static_cast<size_t>(out * in * taps));
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i) std::copy_n(w.begin() + (i * k * out + j * out + o) * taps, taps, slice.begin() + (o * in + i) * taps);
    return slice;
  }

  // conv [out, n, 3, 3] after the 1x1 convolution grow [n, in = n].
  static std::vector<float> product(const std::vector<float>& conv, const float* grow, int64_t out, int64_t n) {
    std::vector<float> w(conv.size());
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < n; ++i)
        for (int64_t tap = 0; tap < 9; ++tap) {
          double sum = 0;
          for (int64_t m = 0; m < n; ++m) sum += static_cast<double>(conv[(o * n + m) * 9 + tap]) * grow[m * n + i];
          w[(o * n + i) * 9 + tap] = static_cast<float>(sum);
        }
    return w;
  }

  int64_t out_, scale_;
  Activation activation_;
  std::vector<Conv> slices_;
};

struct Stage {
  std::vector<MemoryBlock> blocks;
  Grow grow;
};

struct TinyWeights {
  TinyWeights(VolumeLoader& l, const TinyVaeConfig& c)
      : zDim(c.zDim), top(c.channels[0]), patch(c.patch), first(l.plain(layerName(1), {top, zDim, 1, 3, 3}, {top, zDim, 3, 3})) {
    const int64_t count = static_cast<int64_t>(c.timeUpscale.size());
    for (int64_t i = 0; i < count; ++i) {
      const int64_t n = c.channels[i], index = kFirstStage + kLayersPerStage * i;
      std::vector<MemoryBlock> blocks;
      for (int64_t b = 0; b < 3; ++b) blocks.emplace_back(l, layerName(index + b), n);
      const bool isLast = i + 1 == count;
      const Activation after = isLast ? Activation::Relu : Activation::None;  // the module before the last one
      stages.push_back({std::move(blocks), Grow(l, index + 4, {n, c.channels[i + 1], c.timeUpscale[i], !isLast || patch == 1, c.transposed}, after)});
      framesPerLatent *= c.timeUpscale[i];
    }
    const int64_t n = c.channels.back(), rows = 3 * patch * patch;
    const std::string name = layerName(kFirstStage + kLayersPerStage * count + 1);
    const std::vector<float> weight = l.reader().read(name + ".weight", {rows, n, 3, 3}), bias = l.reader().read(name + ".bias", {rows});
    last = l.pack(pixelsFirst(weight, patch), pixelsFirst(bias, patch).data(), {rows, n, 1, 3, 3});
  }

  int64_t zDim, top, patch, framesPerLatent = 1;
  Conv first;
  std::vector<Stage> stages;
  Conv last;
  int slots = 0;
  size_t bytes = 0;
};

class TinyStream final : public LatentStream {
 public:
  TinyStream(Backend& backend, std::shared_ptr<const TinyWeights> weights, int64_t height, int64_t width)
      : LatentStream(plan(backend, *weights, height, width), weights->framesPerLatent), weights_(std::move(weights)) {}

 private:
  static VolumePlan plan(Backend& backend, const TinyWeights& w, int64_t height, int64_t width) {
    VolumePlan p(backend, w.slots);
    p.needConvInput(Role::ConvIn, {1, height, width, w.zDim});
    Shape x{1, height, width, w.top};
    for (const Stage& stage : w.stages) {
      p.needConvInput(Role::Main, x);
      for (const MemoryBlock& block : stage.blocks) block.plan(p, x);
      x = stage.grow.plan(p, x);
    }
    p.needConvInput(Role::Main, x);
    const int64_t squares = w.patch * w.patch;
    p.need(Role::Rgb, DType::F32, {squares * x[0], x[1], x[2], 3});
    if (w.patch > 1) p.need(Role::Side, DType::F32, {x[0], x[1], x[2], 3 * squares});
    return p;
  }

  void decodeLatent(const Tensor& latent, const Tensor& rgb) override {
    Backend& b = stream_.backend();
    const int64_t h = latent.shape[2], w = latent.shape[3];
    const Tensor z = stream_.convInput({1, h, w, weights_->zDim});
    b.permute(ChannelOrder::Last, z, latent, {}, {});
    b.activate(z, z, Activation::TanhClamp);
    Tensor x = stream_.buffer(Role::Main, b.convType(), {1, h, w, weights_->top});
    Backend::ConvArgs relu;
    relu.activation = Activation::Relu;
    stream_.run(relu, weights_->first, x, z);
    for (const Stage& stage : weights_->stages) {
      for (const MemoryBlock& block : stage.blocks) block.run(stream_, x);
      x = stage.grow.run(stream_, x);
    }
    // The last convolution, for the frames that are kept.
    emit(rgb, true, [&](const Tensor& pixels) {
      const int64_t kept = rgb.shape[0], patch = weights_->patch;
      const Tensor in = x.rows(x.shape[0] - kept, kept);
      if (patch == 1) return stream_.run({}, weights_->last, pixels, in);
      const Tensor squares = stream_.buffer(Role::Side, DType::F32, {kept, in.shape[1], in.shape[2], 3 * patch * patch});
      stream_.run({}, weights_->last, squares, in);
      // Seen as frames of one row, rows become p rows of p times as many pixels.
      const int64_t rows = kept * in.shape[1], width = in.shape[2], row = 3 * patch;
      const auto as = [](Tensor t, const Shape& shape) { return t.shape = shape, t; };
      b.splitTime(as(pixels, {patch * rows, 1, width, row}), as(squares, {rows, 1, width, patch * row}), static_cast<int>(patch));
    });
  }

  std::shared_ptr<const TinyWeights> weights_;
};

}  // namespace

std::unique_ptr<DecoderModel> loadTinyVae(Backend& backend, const TinyVaeConfig& config, const SafeTensors& file,
                                          const std::string& prefix) {
  if (config.channels.size() != config.timeUpscale.size() + 1)
    throw Error(ErrorCode::InvalidPackage, "tinyVae.channels must hold " + std::to_string(config.timeUpscale.size() + 1) +
                                               " widths, not " + std::to_string(config.channels.size()));
  WeightReader reader(file, prefix);
  VolumeLoader loader(backend, reader);
  auto weights = std::make_shared<TinyWeights>(loader, config);
  weights->slots = loader.slots(), weights->bytes = loader.bytes();
  reader.ignore("encoder.");
  reader.finish();
  return std::make_unique<StreamedDecoder<TinyStream, TinyWeights>>(backend, std::move(weights));
}

}  // namespace longlive

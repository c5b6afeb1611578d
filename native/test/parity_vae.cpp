// Golden cases of the video decoders and the encoder: spec section 7. Dims, chunking and layouts come from the case.
#include <algorithm>
#include <utility>

#include "longlive/error.h"
#include "model/frame_decoder.h"
#include "parity.h"
#include "wan_vae_encoder.h"

namespace longlive::parity {
namespace {

std::vector<int64_t> integers(const Json& list) {
  std::vector<int64_t> out;
  for (const Json& v : list.array()) out.push_back(v.integer());
  return out;
}

std::vector<int64_t> sizes(const Json& object, const char* key, size_t count, int64_t most) {
  std::vector<int64_t> out;
  for (const Json& v : object.at(key).array()) out.push_back(within(v, key, 1, most));
  if (out.size() != count) refuse(std::string(key) + " must have " + std::to_string(count) + " numbers");
  return out;
}

std::vector<float> floats(const Json& list) {
  std::vector<float> out;
  for (const Json& v : list.array()) out.push_back(static_cast<float>(v.number()));
  return out;
}

VaeConfig vaeConfig(const Json& json) {
  VaeConfig c;
  c.dim = sizeIn(json, "dim"), c.zDim = sizeIn(json, "z_dim");
  c.dimMult = sizes(json, "dim_mult", 4, 64);
  c.numResBlocks = wholeNumber(json, "num_res_blocks", 1, 16);
  c.temporalDownsample.clear();
  for (const Json& v : json.at("temporal_downsample").array()) c.temporalDownsample.push_back(v.boolean());
  c.mean = floats(json.at("latent_mean")), c.std = floats(json.at("latent_std"));
  const size_t latent = static_cast<size_t>(c.zDim);
  if (c.temporalDownsample.size() != 3 || c.mean.size() != latent || c.std.size() != latent) {
    refuse("temporal_downsample must have 3 numbers, latent_mean and latent_std z_dim");
  }
  return c;
}

// A tensor in host memory with its shape.
struct Host {
  std::vector<float> values;
  Shape shape;
};

Host read(const Case& c, const std::string& name) { return {readTensor(c.tensors, name), shapeOf(c.tensors, name, 5)}; }

// F32 device memory for one call.
struct Device {
  Device(Backend& b, const Shape& shape)
      : storage(b.allocate(static_cast<size_t>(std::max<int64_t>(shape.elements(), 1)) * sizeof(float))),
        tensor{storage->data, DType::F32, shape} {}
  std::unique_ptr<Storage> storage;
  Tensor tensor;
};

// [A, B, n] -> [B, A, n].
std::vector<float> swapAxes(const std::vector<float>& in, int64_t a, int64_t b, int64_t n) {
  std::vector<float> out(in.size());
  for (int64_t i = 0; i < a; ++i)
    for (int64_t j = 0; j < b; ++j) std::copy_n(&in[(i * b + j) * n], n, &out[(j * a + i) * n]);
  return out;
}

// [T, H * W, C] -> [T, C, H * W], the golden files' order of pixels.
std::vector<float> planar(const std::vector<float>& in, int64_t frames, int64_t channels) {
  std::vector<float> out(in.size());
  const int64_t pixels = static_cast<int64_t>(in.size()) / (frames * channels);
  for (int64_t t = 0; t < frames; ++t)
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = 0; c < channels; ++c) out[(t * channels + c) * pixels + p] = in[(t * pixels + p) * channels + c];
  return out;
}

// One case's decoder with one stream, whose pictures come back as [T, 3, H, W].
class Player {
 public:
  Player(Backend& backend, std::unique_ptr<DecoderModel> model, Host latents, int64_t pixelsPerSide)
      : backend_(backend), model_(std::move(model)), latents_(std::move(latents)), scale_(pixelsPerSide) {
    if (latents_.shape[0] != 1) throw Error(ErrorCode::InvalidPackage, "golden decode cases have a batch of 1");
    stream_ = model_->createStream(latents_.shape[3], latents_.shape[4], latents_.shape[1]);
  }

  int64_t latents() const { return latents_.shape[1]; }
  void reset() { stream_->reset(); }

  std::vector<float> decode(int64_t begin, int64_t count) {
    const Shape& s = latents_.shape;
    if (begin < 0 || count < 1 || begin > s[1] - count) refuse("a piece of a decode lies outside the case's latents");
    Device in(backend_, {count, s[2], s[3], s[4]});
    backend_.upload(in.tensor, &latents_.values[begin * s[2] * s[3] * s[4]]);
    const int64_t frames = stream_->framesFor(count);
    Device rgb(backend_, {frames, scale_ * s[3], scale_ * s[4], 3});
    if (stream_->decode(in.tensor, rgb.tensor) != frames) throw std::logic_error("decode() and framesFor() disagree");
    std::vector<float> pixels(rgb.tensor.elements());
    backend_.download(pixels.data(), rgb.tensor);
    return planar(pixels, frames, 3);
  }

  // Pictures of consecutive pieces, put together.
  std::vector<float> decodePieces(const std::vector<int64_t>& sizes, bool resetEach) {
    std::vector<float> all;
    int64_t begin = 0;
    reset();
    for (int64_t n : sizes) {
      if (resetEach) reset();
      const std::vector<float> piece = decode(begin, n);
      all.insert(all.end(), piece.begin(), piece.end());
      begin += n;
    }
    return all;
  }

 private:
  Backend& backend_;
  std::unique_ptr<DecoderModel> model_;
  Host latents_;
  int64_t scale_;
  std::unique_ptr<FrameDecoder> stream_;
};

std::vector<float> clamped(std::vector<float> v) {
  for (float& x : v) x = std::min(std::max(x, -1.0f), 1.0f);
  return v;
}

// `count` latents cut into pieces of `size`, the last one shorter.
std::vector<int64_t> pieces(int64_t count, int64_t size) {
  std::vector<int64_t> out;
  for (; count > 0; count -= size) out.push_back(std::min(count, size));
  return out;
}

void compareSlice(Report& r, const std::string& name, const std::vector<float>& all, int64_t offset, const Host& want) {
  const int64_t n = want.shape.elements();
  if (offset < 0 || offset + n > static_cast<int64_t>(all.size()))
    throw Error(ErrorCode::InvalidPackage, name + " does not lie within the decoded frames");
  r.compare(name, all.data() + offset, want.values.data(), n);
}

// Streaming in other pieces than the stored ones must not change a bit.
void compareCuts(Player& player, const std::vector<float>& whole, Report& r) {
  for (int64_t size = 1; size < player.latents(); ++size) {
    const std::vector<float> cut = player.decodePieces(pieces(player.latents(), size), false);
    r.compareInt("frames in pieces of " + std::to_string(size), static_cast<int64_t>(cut.size()),
                 static_cast<int64_t>(whole.size()));
    r.compareInt("bits differ in pieces of " + std::to_string(size), cut == whole ? 0 : 1, 0);
  }
}

}  // namespace

void runVaeDecode(const Case& c, Backend& backend, Report& r) {
  const VaeConfig config = vaeConfig(c.json.at("config"));
  const int64_t side = int64_t{1} << (config.dimMult.size() - 1);
  Player player(backend, loadWanVae(backend, config, c.weights, "weights."), read(c, "inputs.latents"), side);

  const std::vector<float> whole = player.decodePieces({player.latents()}, false);
  if (c.tensors.find("outputs.full_unclamped")) {
    const Host full = read(c, "outputs.full_unclamped");  // [1, 3, T, H, W]
    const int64_t frames = full.shape[2], pixels = full.shape[3] * full.shape[4];
    if (static_cast<int64_t>(whole.size()) != frames * 3 * pixels) refuse("outputs.full_unclamped has not the size of the decoded frames");
    compareSlice(r, "outputs.full_unclamped", swapAxes(whole, frames, 3, pixels), 0, full);
  }
  if (const Json* sizes = c.json.find("stream_chunks")) {
    player.reset();
    int64_t begin = 0, index = 0;
    for (int64_t n : integers(*sizes)) {
      const std::string name = "outputs.stream.chunk" + std::to_string(index++);
      compareSlice(r, name, clamped(player.decode(begin, n)), 0, read(c, name));
      begin += n;
    }
  }
  if (const Json* size = c.json.find("reset_chunk_size"))
    compareSlice(r, "outputs.reset_chunks",
                 clamped(player.decodePieces(pieces(player.latents(), within(*size, "reset_chunk_size", 1, kMostSize)), true)), 0,
                 read(c, "outputs.reset_chunks"));
  compareCuts(player, whole, r);
}

void runVaeEncode(const Case& c, Backend& backend, Report& r) {
  const VaeConfig config = vaeConfig(c.json.at("config"));
  const auto encoder = loadWanVaeEncoder(backend, config, c.weights, "weights.");
  const Host pixels = read(c, "inputs.pixels");  // [1, 3, T, H, W]
  const Host want = read(c, "outputs.latents");  // [1, F, z, h, w]
  const Shape& p = pixels.shape;
  if (p[0] != 1 || p[1] != 3) refuse("golden encode cases have a batch of 1, in RGB");
  r.compareInt("latent frames", VideoEncoder::latentsFor(p[2]), want.shape[1]);

  Device video(backend, {p[2], 3, p[3], p[4]});
  Device latents(backend, {want.shape[1], want.shape[2], want.shape[3], want.shape[4]});
  backend.upload(video.tensor, swapAxes(pixels.values, 3, p[2], p[3] * p[4]).data());
  encoder->encode(latents.tensor, video.tensor);
  std::vector<float> got(latents.tensor.elements());
  backend.download(got.data(), latents.tensor);
  r.compare("outputs.latents", got.data(), want.values.data(), want.shape.elements());
}

void runTaehvDecode(const Case& c, Backend& backend, Report& r) {
  const Json& json = c.json.at("config");
  TinyVaeConfig config;
  config.channels = sizes(json, "decoder_channels", 4, 4096);
  config.zDim = sizeIn(json, "latent_channels");
  config.timeUpscale = sizes(json, "time_upscale", 3, 2);
  const int64_t stages = static_cast<int64_t>(config.timeUpscale.size());
  Player player(backend, loadTinyVae(backend, config, c.tensors, "weights."), read(c, "inputs.latents"),
                int64_t{1} << stages);

  // The golden decode keeps the frames at the start that a stream drops.
  const Host decoded = read(c, "outputs.decoded");  // [1, T, 3, H, W]
  const int64_t picture = decoded.shape[2] * decoded.shape[3] * decoded.shape[4];
  if (decoded.shape[1] % player.latents() != 0) refuse("outputs.decoded must have equally many frames of each latent");
  const int64_t perLatent = decoded.shape[1] / player.latents(), dropped = perLatent - 1;
  const std::vector<float> whole = player.decodePieces({player.latents()}, false);
  const std::vector<float> kept(decoded.values.begin() + dropped * picture, decoded.values.end());
  compareSlice(r, "outputs.decoded", whole, 0, {kept, {decoded.shape[1] - dropped, picture}});
  compareCuts(player, whole, r);

  // The reference demo decodes each block again after the previous one, with a fresh state.
  int64_t previous = 0, begin = 0;
  for (int64_t block = 0; begin < player.latents(); ++block) {
    const std::string name = "outputs.demo_stream.block" + std::to_string(block);
    if (!c.tensors.find(name)) break;
    const Host want = read(c, name);
    const int64_t frames = want.shape[1], count = (frames + perLatent - 1) / perLatent;
    player.reset();
    const std::vector<float> got = player.decode(begin - previous, previous + count);
    compareSlice(r, name, got, static_cast<int64_t>(got.size()) - frames * picture, want);
    previous = count, begin += count;
  }
}

}  // namespace longlive::parity

// How fast a video decoder turns latents into pictures, and which of its layers cost what.
//
//   bench_vae [--dim 16] [--multiples 1,2,4,4] [--z 16] [--eight 0] [--tiny 64,32,16,16] [--patch 1] [--transposed 0] [--size 256x144] [--precision bf16] [--threads 0] [--isa ""] [--repeat 20]
//
// Prints each kind of layer of a Wan VAE of that width at that size (best of several runs; GFLOP/s count the arithmetic
// of the definition, so folded upsampling counts 2.25 times what is computed), then whole blocks of 3 latents.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <sstream>

#include "model/frame_decoder.h"
#include "test/synthetic_vae.h"

namespace longlive {
namespace {

struct Options {
  int64_t dim = 16, width = 256, height = 144;
  std::vector<int64_t> multiples{1, 2, 4, 4}, tiny{64, 32, 16, 16};
  int64_t zDim = 16, patch = 1;
  bool eight = false, transposed = false;  // of the VAE: convolutions in bytes; of the tiny decoder: how it doubles
  int repeat = 20;
  BackendOptions backend;
};

constexpr int64_t kBlock = 3;  // latents

struct Milliseconds {
  double wall = 1e30;
  double cpu = 1e30;  // processor time of all threads: with one thread, a fair figure on a busy machine too
};

double processorMilliseconds() { return static_cast<double>(std::clock()) * 1e3 / CLOCKS_PER_SEC; }

Milliseconds best(int repeat, const std::function<void()>& fn) {
  Milliseconds m;
  fn();
  for (int i = 0; i < repeat; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const double cpuBegin = processorMilliseconds();
    fn();
    m.cpu = std::min(m.cpu, processorMilliseconds() - cpuBegin);
    m.wall = std::min(m.wall, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  return m;
}

struct Buffer {  // filled with noise, unless it holds bytes
  Buffer(Backend& b, DType type, Shape shape)
      : storage(b.allocate(static_cast<size_t>(shape.elements()) * sizeOf(type))), tensor{storage->data, type, shape} {
    if (type == DType::U8) return;
    SyntheticWeights random(7);
    std::vector<float> values(shape.elements());
    for (float& v : values) v = random.uniform();
    b.upload(tensor, values.data());
  }
  std::unique_ptr<Storage> storage;
  Tensor tensor;
};

struct ConvCase {
  const char* name;
  int64_t in, out, frames, width, height;
  int kt, k;
  bool upsample2x = false, residual = false;
};

void benchConv(Backend& b, const ConvCase& c, int repeat) {
  const int64_t scale = c.upsample2x ? 2 : 1;
  const std::vector<float> weight(c.out * c.in * c.kt * c.k * c.k, 0.01f);
  const auto weights = b.prepareConv(weight.data(), nullptr, c.out, c.in, c.kt, c.k, c.k, false, c.upsample2x);
  Buffer in(b, b.convType(), {c.frames, c.height, c.width, c.in});
  Buffer history(b, b.convType(), {std::max(c.kt - 1, 1), c.height, c.width, c.in});
  Buffer out(b, b.activationType(), {c.frames, scale * c.height, scale * c.width, c.out});
  Backend::ConvArgs a;
  a.out = out.tensor, a.in = in.tensor, a.weights = weights.get(), a.upsample2x = c.upsample2x;
  if (c.kt > 1) a.history = history.tensor;
  if (c.residual) a.residual = out.tensor;
  const double ms = best(repeat, [&] { b.conv(a), b.synchronize(); }).wall;
  const double flop = 2.0 * static_cast<double>(out.tensor.elements()) * static_cast<double>(c.in) * c.kt * c.k * c.k;
  std::printf("  %-28s %4ld -> %4ld  %2ld x %4ld x %4ld  %8.3f ms  %8.1f GFLOP/s\n", c.name, long(c.in), long(c.out),
              long(c.frames), long(scale * c.height), long(scale * c.width), ms, flop / ms * 1e-6);
}

void benchNorm(Backend& b, int64_t channels, int64_t frames, int64_t width, int64_t height, int repeat) {
  Buffer in(b, b.activationType(), {frames, height, width, channels});
  Buffer out(b, b.convType(), {frames, height, width, channels});
  Buffer gamma(b, DType::F32, {channels});
  const auto norm = [&] { b.channelNorm(out.tensor, in.tensor, gamma.tensor, Activation::Silu), b.synchronize(); };
  const double ms = best(repeat, norm).wall;
  const double bytes = static_cast<double>(in.tensor.bytes() + out.tensor.bytes());
  std::printf("  %-28s %4ld          %2ld x %4ld x %4ld  %8.3f ms  %8.1f GB/s\n", "norm + SiLU", long(channels), long(frames),
              long(height), long(width), ms, bytes / ms * 1e-6);
}

void benchDecoder(Backend& b, const char* name, DecoderModel& model, const Options& o) {
  const int64_t h = o.height / 8, w = o.width / 8;
  const auto stream = model.createStream(h, w, kBlock);
  Buffer latents(b, DType::F32, {kBlock, o.zDim, h, w});
  Buffer rgb(b, DType::U8, {4 * kBlock, o.height, o.width, 3});
  stream->reset();
  stream->decode(latents.tensor, rgb.tensor);
  const Milliseconds m = best(std::max(3, o.repeat / 2), [&] {
    stream->decode(latents.tensor, rgb.tensor);
    b.synchronize();
  });
  std::printf("  %-28s block of 12 frames: %8.2f ms (processor %.2f ms), stream %.1f MB, weights %.1f MB\n", name,
              m.wall, m.cpu, static_cast<double>(stream->memoryBytes()) * 1e-6, static_cast<double>(model.weightBytes()) * 1e-6);
}

void benchLayers(Backend& b, const Options& o) {
  const int64_t d = o.dim, w = o.width, h = o.height;
  const ConvCase cases[] = {
      {"conv1", 16, 4 * d, 1, w / 8, h / 8, 3, 3},
      {"middle, upsamples 0-2", 4 * d, 4 * d, 1, w / 8, h / 8, 3, 3, false, true},
      {"upsamples 3 time_conv", 4 * d, 8 * d, 1, w / 8, h / 8, 3, 1},
      {"upsamples 3 resample", 4 * d, 2 * d, 2, w / 8, h / 8, 1, 3, true},
      {"upsamples 4 conv1", 2 * d, 4 * d, 2, w / 4, h / 4, 3, 3},
      {"upsamples 4-6", 4 * d, 4 * d, 2, w / 4, h / 4, 3, 3, false, true},
      {"upsamples 7 resample", 4 * d, 2 * d, 4, w / 4, h / 4, 1, 3, true},
      {"upsamples 8-10", 2 * d, 2 * d, 4, w / 2, h / 2, 3, 3, false, true},
      {"upsamples 11 resample", 2 * d, d, 4, w / 2, h / 2, 1, 3, true},
      {"upsamples 12-14", d, d, 4, w, h, 3, 3, false, true},
      {"head", d, 3, 4, w, h, 3, 3},
  };
  for (const ConvCase& c : cases) benchConv(b, c, o.repeat);
  benchNorm(b, d, 4, w, h, o.repeat);
  benchNorm(b, 2 * d, 4, w / 2, h / 2, o.repeat);
}

std::vector<int64_t> integerList(const std::string& text) {
  std::vector<int64_t> out;
  std::stringstream in(text);
  for (std::string part; std::getline(in, part, ',');) out.push_back(std::atoll(part.c_str()));
  return out;
}

Options parse(int argc, char** argv) {
  Options o;
  o.backend.precision = Precision::BF16;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i], value = argv[i + 1];
    if (key == "--dim") o.dim = std::atoll(value.c_str());
    else if (key == "--multiples") o.multiples = integerList(value);
    else if (key == "--z") o.zDim = std::atoll(value.c_str());
    else if (key == "--eight") o.eight = value == "1";
    else if (key == "--tiny") o.tiny = integerList(value);
    else if (key == "--patch") o.patch = std::atoll(value.c_str());
    else if (key == "--transposed") o.transposed = value == "1";
    else if (key == "--size") std::sscanf(value.c_str(), "%ldx%ld", &o.width, &o.height);
    else if (key == "--precision")
      o.backend.precision = value == "fp32" ? Precision::FP32 : value == "int8" ? Precision::INT8 : Precision::BF16;
    else if (key == "--threads") o.backend.threads = std::atoi(value.c_str());
    else if (key == "--isa") o.backend.isa = value;
    else if (key == "--repeat") o.repeat = std::atoi(value.c_str());
    else std::fprintf(stderr, "unknown option %s\n", key.c_str()), std::exit(2);
  }
  return o;
}

void run(const Options& o) {
  const auto backend = makeCpuBackend(o.backend);
  const DeviceInfo info = backend->info();
  std::printf("%s, %s, %d threads; VAE width %ld, %ldx%ld\n", info.name.c_str(), info.isa.c_str(), info.threads, long(o.dim),
              long(o.width), long(o.height));
  benchLayers(*backend, o);

  VaeConfig config;
  config.dim = o.dim, config.dimMult = o.multiples, config.zDim = o.zDim, config.eightBit = o.eight;
  config.mean.assign(static_cast<size_t>(o.zDim), 0.0f), config.std.assign(static_cast<size_t>(o.zDim), 1.0f);
  SyntheticWeights wanWeights(1);
  syntheticWanDecoder(wanWeights, config);
  benchDecoder(*backend, "Wan VAE", *loadWanVae(*backend, config, wanWeights.file()), o);

  TinyVaeConfig tiny;
  tiny.channels = o.tiny, tiny.zDim = o.zDim, tiny.patch = o.patch, tiny.transposed = o.transposed;
  SyntheticWeights tinyWeights(2);
  syntheticTinyDecoder(tinyWeights, tiny);
  benchDecoder(*backend, "TAEHV", *loadTinyVae(*backend, tiny, tinyWeights.file()), o);
}

}  // namespace
}  // namespace longlive

int main(int argc, char** argv) {
  longlive::run(longlive::parse(argc, argv));
  return 0;
}

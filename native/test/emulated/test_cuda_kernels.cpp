// Every CUDA kernel, run on the processor (test/cuda_emulator), against the CPU backend in F32 on the same random inputs:
// shapes with tails in every direction, all types, the paths that golden data do not reach.
#include <dlfcn.h>

#include <array>

#include "../synthetic_vae.h"
#include "longlive/error.h"
#include "model/frame_decoder.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "operations.h"
#include "ops/cuda/attention_device.cuh"
#include "ops/cuda/attention_eight.cuh"
#include "ops/cuda/attention_plan.h"
#include "ops/cuda/attention_schedule.h"
#include "ops/cuda/linear_plan.h"
#include "ops/key_values.h"

using namespace longlive;

namespace {

// A layer norm that three layers read, the last of them some of its rows, and a feed-forward: with rows in 8 bits between them, or as they are.
Values normAndLayers(Device& d, int64_t rows, int64_t width, int64_t inner, bool bytes) {
  Backend& b = *d.backend;
  const auto weights = [&](int64_t out, int64_t in) {
    const Values w = random(out * in, 1.0f / std::sqrt(static_cast<float>(in))), bias = random(out, 0.3f);
    return b.prepareLinear(w.data(), bias.data(), out, in);
  };
  const auto between = [&](int64_t wide) -> LinearRows {
    if (!bytes) return d.activation({rows, wide});
    CHECK(sizeOf(b.linearType(wide)) == 1);
    return {d.empty(b.linearType(wide), {rows, wide}), d.empty(DType::F32, {rows})};
  };
  const auto square = weights(width, width), up = weights(inner, width), down = weights(width, inner);
  Values x = random(rows * width, 2.0f);
  std::fill(x.begin() + width, x.begin() + 2 * width, 0.0f);  // a row of one number
  const Tensor in = d.activation({rows, width}, x), out = d.activation({rows, width}), gate = d.activation({1, width}, random(width));
  const LinearRows normed = between(width), hidden = between(inner);
  Values all;
  const auto keep = [&](const Tensor& t) {
    const Values v = d.get(t);
    all.insert(all.end(), v.begin(), v.end());
  };
  b.layerNorm(normed, in, NormScale::Modulate, d.activation({1, width}, random(width)), d.activation({1, width}, Values(static_cast<size_t>(width))), 1e-6f);
  b.linear(out, normed, *square);
  keep(out);
  b.linear(out.rows(0, rows - 4), normed.rows(4, rows - 4), *square, {.residual = in.rows(4, rows - 4), .gate = gate});
  keep(out);
  b.layerNorm(normed, in, NormScale::Affine, d.activation({width}, random(width)), d.activation({width}, random(width)), 1e-6f);
  b.linear(hidden, normed, *up, {.activation = Activation::GeluTanh});
  b.linear(out, hidden, *down, {.residual = out, .gate = gate});
  keep(out);
  return all;
}

// Rows in 8 bits between layers are those that each layer would have made for itself.
void sameWithBytesBetween(Precision precision, std::vector<std::array<int64_t, 3>> sizes) {
  BackendOptions options;
  options.precision = precision;
  for (const auto& [rows, width, inner] : sizes) {
    const auto run = [&](bool bytes) {
      generator.seed(13);
      Device d(makeCudaBackend(options));
      return normAndLayers(d, rows, width, inner, bytes);
    };
    CHECK(run(true) == run(false));
  }
}

constexpr Precision kAll[] = {Precision::FP32, Precision::BF16, Precision::INT8};
const std::vector<Precision> all(std::begin(kAll), std::end(kAll));

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code() == ErrorCode::InvalidArgument ? e.what() : std::string("another error: ") + e.what();
  }
  return "none";
}

}  // namespace

TEST("cuda: linear layers, every epilogue and tails") {
  compare("plain", [](Device& d) { return linear(d, 5, 64, 48, Activation::None, false, false, 0); }, all);
  compare("two tiles", [](Device& d) { return linear(d, 150, 96, 136, Activation::GeluTanh, false, false, 0); }, all);
  compare("gated", [](Device& d) { return linear(d, 12, 128, 96, Activation::None, false, true, 3); }, all);
  compare("multiply", [](Device& d) { return linear(d, 9, 48, 64, Activation::Silu, true, true, 0); }, all);
  compare("residual", [](Device& d) { return linear(d, 33, 40, 32, Activation::None, false, true, 1); });
  compare("odd", [](Device& d) { return linear(d, 7, 13, 9, Activation::None, false, true, 0); });
}

TEST("cuda: matrices of bytes, multiplied wide") {
  for (int64_t out : {64, 72}) {
    compare("bytes of " + std::to_string(out), [out](Device& d) {
      const int64_t in = 80, rows = 9;
      std::vector<int8_t> bytes(static_cast<size_t>(out * in));
      for (int8_t& b : bytes) b = static_cast<int8_t>(generator() % 255 - 127);
      StoredMatrix m{bytes.data(), DType::I8, out, in, {}, "bytes"};
      for (int64_t r = 0; r < out; ++r) m.scale.push_back(0.0005f * static_cast<float>(1 + r % 7));
      const Values bias = random(out);
      const auto w = d.backend->loadLinear(m, bias.data(), EightBit::Weights);
      if (d.backend->sharesLanes() && d.backend->precision() == Precision::BF16) CHECK(w->bytes < static_cast<size_t>(2 * out * in));
      const Tensor y = d.activation({rows, out});
      d.backend->linear(y, d.activation({rows, in}, random(rows * in)), *w, {});
      return d.get(y);
    }, all);
  }
}

TEST("cuda: fp8 numbers") {
  for (int bits = 0; bits < 256; ++bits) {
    const float x = fromE4m3(static_cast<uint8_t>(bits));
    if ((bits & 0x7f) == 0x7f) CHECK(std::isnan(x));
    else CHECK(roundToE4m3(x) == bits);
    if ((bits & 0x7f) >= 0x7e) continue;
    const float next = fromE4m3(static_cast<uint8_t>(bits + 1));
    CHECK(roundToE4m3((x + next) / 2) == (bits & 1 ? bits + 1 : bits));  // ties go to the even one
    CHECK(roundToE4m3(x + (next - x) * 0.499f) == bits && roundToE4m3(x + (next - x) * 0.501f) == bits + 1);
  }
  CHECK(fromE4m3(0x7e) == 448.0f && roundToE4m3(1e9f) == 0x7e && roundToE4m3(-INFINITY) == 0xfe && (roundToE4m3(NAN) & 0x7f) == 0x7f);
}

TEST("cuda: linear layers in fp8, and matrices that are stored so") {
  const Chip ada(8, 9);
  const std::vector<Precision> fp8 = {Precision::FP8};
  compare("plain", [](Device& d) { return linear(d, 5, 64, 48, Activation::None, false, false, 0); }, fp8);
  compare("two tiles", [](Device& d) { return linear(d, 150, 96, 136, Activation::GeluTanh, false, false, 0); }, fp8);
  compare("gated", [](Device& d) { return linear(d, 12, 128, 96, Activation::None, false, true, 3); }, fp8);
  compare("multiply", [](Device& d) { return linear(d, 9, 48, 64, Activation::Silu, true, true, 0); }, fp8);
  const auto stored = [](Device& d, uint8_t first) {
    const int64_t in = 96, out = 40, rows = 9;
    std::vector<uint8_t> bytes(static_cast<size_t>(out * in));
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(generator() % 2 << 7 | generator() % 0x7f);
    if (first) bytes[0] = first;
    StoredMatrix m{bytes.data(), DType::F8_E4M3, out, in, {}, "a matrix of bytes"};
    for (int64_t r = 0; r < out; ++r) m.scale.push_back(0.0005f * static_cast<float>(1 + r % 7));
    const auto w = d.backend->loadLinear(m, nullptr, EightBit::Full);
    if (d.backend->precision() == Precision::FP8) CHECK(w->bytes < static_cast<size_t>(2 * out * in));
    const Tensor y = d.activation({rows, out});
    d.backend->linear(y, d.activation({rows, in}, random(rows * in)), *w, {});
    return d.get(y);
  };
  compare("stored", [&](Device& d) { return stored(d, 0); }, fp8);
  BackendOptions options;
  options.precision = Precision::FP8;
  Device d(makeCudaBackend(options));
  CHECK_THROWS(stored(d, 0x7f), Error);  // NaN
}

TEST("cuda: rows in 8 bits that several layers read are those that each would have made") {
  sameWithBytesBetween(Precision::INT8, {{5, 64, 96}, {7, 1536, 48}, {6, 48, 2048}});  // a warp or a block to a row
  const Chip ada(8, 9);
  sameWithBytesBetween(Precision::FP8, {{5, 64, 96}, {7, 1536, 48}, {6, 48, 2048}});
  BackendOptions options;
  options.precision = Precision::FP8;
  Device d(makeCudaBackend(options));
  const auto w = d.backend->prepareLinear(random(32 * 32).data(), nullptr, 32, 32, true);
  const LinearRows bytes{d.empty(DType::F8_E4M3, {4, 32}), d.empty(DType::F32, {4})};
  CHECK_THROWS(d.backend->linear(d.activation({4, 32}), bytes, *w), std::logic_error);  // its matrix is not in 8 bits
  CHECK_THROWS(d.backend->linear(bytes, d.activation({4, 32}), *w, {.residual = d.activation({4, 32})}), std::logic_error);
}

TEST("cuda: arithmetic that a device does not have is refused, and the message says what to do") {
  BackendOptions fp8, attention;
  fp8.precision = Precision::FP8;
  attention.precision = Precision::BF16, attention.attention = AttentionArithmetic::Int8;
  const std::string old = refusal([&] { makeCudaBackend(fp8); });
  CHECK(old.find("compute capability 8.0") != std::string::npos && old.find("\"int8\" or \"bf16\"") != std::string::npos);
  CHECK(refusal([&] { makeCpuBackend(fp8); }).find("is for device \"cuda\"") != std::string::npos);
  CHECK(refusal([&] { makeCpuBackend(attention); }).find("load with attention \"full\"") != std::string::npos);
  CHECK(refusal([&] { makeCudaBackend(attention); }) == "none");
  attention.precision = Precision::FP32;
  CHECK(refusal([&] { makeCudaBackend(attention); }).find("not for precision \"fp32\"") != std::string::npos);
}

TEST("cuda: convolutions") {
  using Pad = Backend::ConvArgs::Pad;
  const auto run = [](const char* name, const ConvCase& c) { compare(name, [c](Device& d) { return conv(d, c); }); };
  run("1x1x1", {2, 5, 7, 16, 24, 1, 1, 1});
  run("3x3x3 without history", {3, 6, 5, 8, 40, 3, 3, 3});
  run("3x3x3 with history", {1, 6, 5, 96, 33, 3, 3, 3, 1, 1, Pad::Same, true, false, 2});
  run("3x3x3 with half a history", {2, 6, 5, 24, 16, 3, 3, 3, 1, 1, Pad::Same, true, false, 1, Activation::Silu, true});
  run("residual then relu", {1, 9, 9, 64, 64, 2, 3, 3, 1, 1, Pad::Same, true, false, 1, Activation::Relu, true, true});
  run("relu then residual", {1, 4, 4, 32, 96, 1, 3, 3, 1, 1, Pad::Same, true, false, 0, Activation::Relu, true});
  run("stride 2", {2, 8, 10, 16, 16, 1, 3, 3, 1, 2, Pad::RightBottom});
  run("stride 2 in time", {4, 3, 4, 16, 16, 3, 1, 1, 2, 1, Pad::Same, false, false, 1});
  run("upsampling", {2, 5, 6, 32, 24, 1, 3, 3, 1, 1, Pad::Same, true, true});
  run("upsampling, odd channels", {1, 3, 4, 5, 3, 1, 3, 3, 1, 1, Pad::Same, true, true});
  run("pictures in", {2, 8, 8, 3, 16, 3, 3, 3});
  run("pictures out", {2, 8, 8, 32, 3, 3, 3, 3, 1, 1, Pad::Same, true, false, 2, Activation::None, false, false, true});
}

TEST("cuda: sensitive convolutions are F32 in every precision, on Hopper too") {
  using Pad = Backend::ConvArgs::Pad;
  const ConvCase c{1, 6, 5, 64, 96, 3, 3, 3, 1, 1, Pad::Same, true, false, 2, Activation::None, false, false, true, true};
  const auto run = [&](Device& d) { return conv(d, c); };
  compare("sensitive", run, {Precision::BF16}, 5e-6);
  const Chip hopper(9, 0);
  compare("sensitive, Hopper", run, {Precision::BF16}, 5e-6);
}

TEST("cuda: decoders, whole") {
  // Larger sums than a single layer's, rounded at every convolution.
  const auto decoded = [](Device& d, DecoderModel& model) {
    const auto stream = model.createStream(3, 4, 2);
    Values all;
    for (int call = 0; call < 2; ++call) {
      const Tensor latents = d.put(DType::F32, {2, 16, 3, 4}, random(2 * 16 * 12));
      const Tensor rgb = d.empty(DType::F32, {stream->framesFor(2), 24, 32, 3});
      stream->decode(latents, rgb);
      const Values v = d.get(rgb);
      all.insert(all.end(), v.begin(), v.end());
    }
    return all;
  };
  compare("Wan", [&](Device& d) {
    VaeConfig c;
    c.dim = 8, c.mean.assign(16, 0.0f), c.std.assign(16, 1.0f);
    SyntheticWeights w(3);
    syntheticWanDecoder(w, c);
    const SafeTensors file = w.file();
    return decoded(d, *loadWanVae(*d.backend, c, file));
  }, all, 3e-2);
  compare("tiny", [&](Device& d) {
    TinyVaeConfig c;
    c.channels = {16, 16, 8, 8};
    SyntheticWeights w(3);
    syntheticTinyDecoder(w, c);
    const SafeTensors file = w.file();
    return decoded(d, *loadTinyVae(*d.backend, c, file));
  }, all, 3e-2);
}

TEST("cuda: attention over ranges, biases and every head width") {
  for (int64_t d : {16, 24, 32, 64, 96, 128, 384}) {
    compare("head " + std::to_string(d), [d](Device& dev) {
      return attention(dev, 70, 90, d == 384 ? 1 : 2, d, {{80, 10}, {0, 3}, {3, 20}, {40, 25}}, false, 0.0f);
    });
  }
  compare("collapsed text", [](Device& d) { return attention(d, 131, 40, 3, 32, {{0, 17}}, false, 3.5f); });
  for (int64_t keys : {1, 41, 64, 65, 128}) {  // kept while a block goes through several tiles of queries
    for (int64_t head : {112, 128}) {
      compare("few keys, " + std::to_string(keys), [=](Device& d) { return attention(d, 1000, 140, 2, head, {{7, keys}}, false, 3.5f); });
    }
  }
  compare("relative bias", [](Device& d) { return attention(d, 19, 19, 2, 64, {{0, 19}}, true, 0.0f); });
  compare("awkward head", [](Device& d) { return attention(d, 11, 13, 3, 6, {{0, 13}}, true, 1.0f); });
  compare("long", [](Device& d) { return attention(d, 20, 400, 1, 128, {{200, 200}, {0, 150}}, false, 0.0f); });
  const Chip ada(8, 9);  // the least shared memory
  for (int64_t d : {128, 384, 512}) {
    compare("little shared memory, head " + std::to_string(d), [d](Device& dev) {
      return attention(dev, 70, 150, 1, d, {{80, 70}, {0, 3}, {3, 20}, {40, 25}}, false, 2.0f);
    });
  }
}

TEST("cuda: 8-bit attention errs as much as its roundings say, and no more") {
  const std::vector<KeyRange> runs = {{120, 70}, {0, 3}, {10, 90}};
  for (bool fp8 : {true, false}) {
    const Chip chip(8, fp8 ? 9 : 0);
    for (int64_t headDim : {128, 112, 96, 48, 16}) {
      // What all keys have in common is a multiple of what tells them apart: without smoothing the error would be as much larger.
      for (float common : {0.0f, 20.0f}) {
        if (common > 0 && headDim != 128) continue;
        for (int64_t page : {0, 80}) {
          const std::vector<KeyRange> pages = {{0, 80}, {80, 80}, {160, 80}};
          const EightBitError e = eightBitError(fp8, 64, 70, page > 0 ? 320 : 190, headDim == 128 ? 1 : 2, headDim, page > 0 ? pages : runs, common, page);
          const bool ok = e.rms > 0.8 && e.rms < 1.2 && e.worst < 6;
          if (!ok) std::fprintf(stderr, "fp8 %d, head %d, common %g, page %d: rms %g, worst %g\n", fp8, static_cast<int>(headDim), static_cast<double>(common), static_cast<int>(page), e.rms, e.worst);
          CHECK(ok);
        }
      }
    }
  }
}

// Fragments of 8-bit operands and of sums, as in ptx.cuh; those of wgmma are the same for each warp.
TEST("cuda: 8-bit weights lie in their lane as the product takes them") {
  for (int key = 0; key < 128; ++key) CHECK(cuda::eightKeyOf(cuda::eightWordOf(key), cuda::eightByteOf(key)) == key);
  for (int step = 0; step < 4; ++step)
    for (int half = 0; half < 2; ++half)
      for (int t = 0; t < 4; ++t)
        for (int byte = 0; byte < 4; ++byte) {
          const int packed = 8 * (4 * step + 2 * half + byte / 2) + 2 * t + byte % 2;  // the sum that a lane has at hand
          const int place = 32 * step + 16 * half + 4 * t + byte;                      // where the product finds it
          CHECK(cuda::eightKeyOf(place / 4, place % 4) == packed);
        }
}

TEST("cuda: 8-bit attention multiplies values in fp8 where mma.sync has that") {
  BackendOptions options;
  options.precision = Precision::BF16, options.attention = AttentionArithmetic::Int8;
  const auto run = [&](int major, int minor) {
    const Chip chip(major, minor);
    generator.seed(5);
    Device d(makeCudaBackend(options));
    const KeyRange all{0, 30};
    AttentionArgs a;
    a.q = d.activation({9, 64}, random(9 * 64)), a.k = d.activation({30, 64}, random(30 * 64)), a.v = d.activation({30, 64}, random(30 * 64));
    a.out = d.activation({9, 64}), a.visible = {&all, 1}, a.eightBit = true;
    d.backend->attention(a);
    return d.get(a.out);
  };
  CHECK(run(8, 9) == run(12, 0) && run(8, 0) == run(9, 0) && run(9, 0) == run(10, 0) && run(8, 9) != run(8, 0));
}

TEST("cuda: 8-bit attention takes the bytes that norms make of queries for its own") {
  BackendOptions options;
  options.precision = Precision::BF16, options.attention = AttentionArithmetic::Int8;
  for (int64_t headDim : {64, 128}) {
    const auto run = [&](bool bytes) {
      generator.seed(7);
      Device d(makeCudaBackend(options));
      auto& gpu = static_cast<cuda::CudaBackend&>(*d.backend);
      const int64_t frames = 70, h = 1, w = 2, n = frames * h * w, width = 512, heads = width / headDim, rest = headDim / 2 - 8;
      const RopeTables t{d.put(DType::F32, {80, rest, 2}, random(160 * rest)), d.put(DType::F32, {h, 5, 2}, random(10)), d.put(DType::F32, {w, 3, 2}, random(12)), h, w};
      std::vector<int32_t> at;
      for (int32_t f = 0; f < frames; ++f) at.push_back(f * 7 % 80);
      const KeyRange all{0, 90};
      cuda::SelfAttention a;
      a.q = d.activation({n, width}, random(n * width)), a.k = d.activation({90, width}, random(90 * width)), a.v = d.activation({90, width}, random(90 * width));
      a.out = d.activation({n, width}), a.visible = {&all, 1}, a.heads = heads, a.eightBit = true, a.scale = 0.3f;
      const Tensor weight = d.activation({width}, random(width));
      if (bytes) {
        CHECK(cuda::canQuantizeQueries(width, heads));
        const Tensor values = d.empty(DType::I8, {n, width});
        a.qScale = d.empty(DType::F32, {n, heads});
        cuda::quantizedQueries(gpu.stream(), values, a.qScale, a.q, weight, 1e-6f, heads, t, at);
        a.q = values;
      } else {
        gpu.rmsNormRope(a.q, a.q, weight, 1e-6f, heads, {&t, at});
      }
      gpu.attend(a);
      return d.get(a.out);
    };
    CHECK(run(true) == run(false));
  }
}

TEST("cuda: 8-bit attention leaves alone what it is not for") {
  BackendOptions options;
  options.precision = Precision::BF16;
  const auto run = [&](AttentionArithmetic arithmetic, int64_t headDim, bool asked, float last) {
    options.attention = arithmetic;
    generator.seed(5);
    Device d(makeCudaBackend(options));
    const int64_t width = 2 * headDim;
    const KeyRange all{0, 30};
    AttentionArgs a;
    a.q = d.activation({9, width}, random(9 * width)), a.k = d.activation({30, width}, random(30 * width)), a.v = d.activation({30, width}, random(30 * width));
    a.out = d.activation({9, width}), a.visible = {&all, 1}, a.heads = 2, a.eightBit = asked, a.lastKeyLogBias = last;
    d.backend->attention(a);
    return d.get(a.out);
  };
  const auto same = [&](int64_t headDim, bool asked, float last) {
    return run(AttentionArithmetic::Int8, headDim, asked, last) == run(AttentionArithmetic::Full, headDim, asked, last);
  };
  CHECK(!same(64, true, 0));
  CHECK(same(64, false, 0) && same(64, true, 2) && same(24, true, 0) && same(384, true, 0));
}

TEST("cuda: norms and rotations") {
  for (int64_t width : {96, 44, 1536}) {
    compare("layer norm " + std::to_string(width), [width](Device& d) {
      const Tensor x = d.activation({12, width}, random(12 * width, 2.0f)), out = d.activation({12, width});
      d.backend->layerNorm(out, x, NormScale::Modulate, d.activation({3, width}, random(3 * width)), d.activation({3, width}, random(3 * width)), 1e-6f);
      Values a = d.get(out);
      d.backend->layerNorm(out, x, NormScale::Affine, d.activation({width}, random(width)), d.activation({width}, random(width)), 1e-6f);
      const Values b = d.get(out);
      a.insert(a.end(), b.begin(), b.end());
      d.backend->rmsNorm(x, x, d.activation({width}, random(width)), 1e-6f);
      const Values c = d.get(x);
      a.insert(a.end(), c.begin(), c.end());
      return a;
    });
  }
  compare("rotation of many frames", [](Device& d) {
    const int64_t frames = 70, h = 2, w = 3, heads = 2, width = heads * 2 * (3 + 2 + 1);
    const RopeTables t{d.put(DType::F32, {80, 3, 2}, random(480)), d.put(DType::F32, {h, 2, 2}, random(8)), d.put(DType::F32, {w, 1, 2}, random(6)), h, w};
    std::vector<int32_t> at;
    for (int32_t f = 0; f < frames; ++f) at.push_back(f * 7 % 80);
    const Tensor x = d.activation({frames * h * w, width}, random(frames * h * w * width));
    d.backend->rmsNormRope(x, x, d.activation({width}, random(width)), 1e-6f, heads, {&t, at});
    d.backend->rope(x, x, heads, {&t, at});
    return d.get(x);
  });
  for (int64_t channels : {3, 16, 96, 384}) {
    compare("channel norm " + std::to_string(channels), [channels](Device& d) {
      const Tensor x = d.activation({1, 5, 7, channels}, random(35 * channels));
      d.backend->channelNorm(x, x, d.put(DType::F32, {channels}, random(channels)), Activation::Silu);
      return d.get(x);
    });
  }
}

TEST("cuda: elementwise, sampling and pictures") {
  compare("add, activate, copy", [](Device& d) {
    const Tensor x = d.activation({6, 24}, random(144)), y = d.empty(DType::F32, {6, 24});
    d.backend->add(x, x, d.activation({1, 24}, random(24)));
    d.backend->activate(x, x, Activation::GeluTanh);
    d.backend->copy(y, x);
    return d.get(y);
  });
  compare("embed", [](Device& d) {
    const Tensor out = d.activation({600, 20});
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 600; ++i) ids.push_back(i * 13 % 50);
    d.backend->embed(out, d.put(d.backend->kvType(), {50, 20}, random(1000)), ids);
    return d.get(out);
  });
  compare("patchify, flow, noise", [](Device& d) {
    const Shape latents{2, 5, 4, 6};
    const Tensor x = d.put(DType::F32, latents, random(240)), e = d.put(DType::F32, latents, random(240)), tokens = d.activation({12, 20});
    d.backend->patchify(tokens, x);
    d.backend->flowToX0(x, x, tokens, 0.7f);
    d.backend->mix(x, x, e, 0.3f);
    return d.get(x);
  });
  compare("mixed keys", [](Device& d) {
    const Tensor x = d.put(d.backend->kvType(), {7, 20}, random(140)), y = d.put(d.backend->kvType(), {7, 20}, random(140)), out = d.empty(DType::F32, {7, 20});
    d.backend->mix(x, x, y, 0.3f);
    d.backend->copy(out, x);
    return d.get(out);
  });
  compare("layouts", [](Device& d) {
    const Tensor x = d.put(DType::F32, {3, 5, 4, 6}, random(360)), mul = d.put(DType::F32, {5}, random(5)), add = d.put(DType::F32, {5}, random(5));
    const Tensor last = d.activation({3, 4, 6, 5}), wide = d.activation({2, 3, 4, 16}, random(384)), split = d.activation({4, 3, 4, 8});
    d.backend->permute(ChannelOrder::Last, last, x, mul, add);
    d.backend->activate(last, last, Activation::TanhClamp);
    d.backend->permute(ChannelOrder::First, x, last, {}, add);
    d.backend->splitTime(split, wide, 2);
    Values a = d.get(x);
    const Values b = d.get(split);
    a.insert(a.end(), b.begin(), b.end());
    return a;
  });
}

TEST("cuda: noise and pictures are the CPU's to the bit") {
  const auto run = [](std::unique_ptr<Backend> backend) {
    generator.seed(3);
    Device d(std::move(backend));
    const Tensor noise = d.empty(DType::F32, {1003});
    d.backend->gaussian(noise, 0x123456789abcdefull, 17, 2);
    const Tensor x = d.put(DType::F32, {2, 6, 10, 3}, random(360, 0.7f)), rgb = d.empty(DType::U8, {2, 6, 10, 3}), i420 = d.empty(DType::U8, {2, 90});
    d.backend->toRgb8(rgb, x, false);
    d.backend->toI420(i420, rgb);
    std::vector<uint8_t> bytes(4 * 1003 + 360 + 180);
    d.backend->downloadBytes(bytes.data(), noise);
    d.backend->downloadBytes(bytes.data() + 4 * 1003, rgb);
    d.backend->downloadBytes(bytes.data() + 4 * 1003 + 360, i420);
    return bytes;
  };
  CHECK(run(makeCpuBackend({})) == run(makeCudaBackend({})));
}

TEST("cuda: copies larger than the staging memory") {
  BackendOptions options;
  options.precision = Precision::BF16;
  Device d(makeCudaBackend(options));
  const int64_t n = (9 << 20) / 4 + 12345;
  Values v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[static_cast<size_t>(i)] = static_cast<float>(i % 251 - 125);  // exact in bf16
  CHECK(d.get(d.put(DType::F32, {n}, v)) == v);
  CHECK(d.get(d.put(DType::BF16, {n}, v)) == v);
}

// The same layers through the library's plans and epilogues.
TEST("cuda: linear layers by a library") {
  const FakeLibrary library;
  BackendOptions options;
  options.precision = Precision::BF16;
  const std::string isa = makeCudaBackend(options)->info().isa;
  CHECK(isa.find("cublaslt") != std::string::npos);
  const std::vector<Precision> both = {Precision::FP32, Precision::BF16};
  compare("plain", [](Device& d) { return linear(d, 5, 64, 48, Activation::None, false, false, 0); }, both);
  compare("gelu", [](Device& d) { return linear(d, 15, 96, 136, Activation::GeluTanh, false, false, 0); }, both);
  compare("silu", [](Device& d) { return linear(d, 15, 96, 136, Activation::Silu, false, false, 0); }, both);
  compare("residual in place", [](Device& d) { return linear(d, 33, 40, 32, Activation::None, false, true, 0); }, both);
  compare("gate and residual in place", [](Device& d) { return linear(d, 12, 128, 96, Activation::None, false, true, 3); }, both);
  compare("multiply", [](Device& d) { return linear(d, 9, 48, 64, Activation::None, true, false, 0); }, both);
  compare("everything", [](Device& d) { return linear(d, 12, 48, 64, Activation::GeluTanh, true, true, 4); }, both);
  compare("refused for its alignment", [](Device& d) { return linear(d, 7, 13, 9, Activation::None, false, true, 0); }, both);
  const Chip hopper(9, 0);
  const std::vector<Precision> fp8 = {Precision::FP8};
  void* handle = dlopen(library.path.c_str(), RTLD_NOW);
  const auto products = reinterpret_cast<int (*)(int)>(handle ? dlsym(handle, "fakeCublasLtProducts") : nullptr);
  CHECK(products && products(28) == 0);
  compare("fp8", [](Device& d) { return linear(d, 5, 64, 48, Activation::None, false, false, 0); }, fp8);
  compare("fp8, no gelu in the library", [](Device& d) { return linear(d, 15, 96, 136, Activation::GeluTanh, false, false, 0); }, fp8);
  compare("fp8, gate and residual in place", [](Device& d) { return linear(d, 12, 128, 96, Activation::None, false, true, 3); }, fp8);
  compare("fp8, residual in place", [](Device& d) { return linear(d, 33, 48, 32, Activation::None, false, true, 0); }, fp8);
  compare("fp8, everything", [](Device& d) { return linear(d, 12, 48, 64, Activation::GeluTanh, true, true, 4); }, fp8);
  CHECK(products && products(28) == 5);
  sameWithBytesBetween(Precision::FP8, {{8, 64, 96}});
  CHECK(products && products(28) == 5 + 8);
}

// A video of such blocks through the GPU's store: what attention in 8 bits gives, beside that in bf16, as the rms of their difference over the result's.
double eightBitStoreError(const KvGeometry& g, const std::vector<int64_t>& blocks) {
  constexpr int64_t kFrame = 22, kWidth = 128;
  std::vector<Values> outputs[2];
  for (const AttentionArithmetic arithmetic : {AttentionArithmetic::Full, AttentionArithmetic::Int8}) {
    generator.seed(31);
    BackendOptions options;
    options.precision = Precision::BF16, options.attention = arithmetic;
    Device d(makeCudaBackend(options));
    Backend& b = *d.backend;
    const auto weights = [&] { return b.prepareLinear(random(kWidth * kWidth, 0.09f).data(), nullptr, kWidth, kWidth); };
    const auto key = weights(), value = weights();
    Parameters parameters(b);
    const RopeTables tables = makeRopeTables(parameters, kWidth, 10000, 64, 2, 11);
    const Tensor norm = parameters.add(random(kWidth), {kWidth}, b.activationType());
    KvCache cache(g, b.makeKeyValues({.frames = g.capacity, .frameTokens = kFrame, .width = kWidth, .heads = 1, .queryFrames = g.capacity, .blockFrames = blocks.back(),
                                      .sinkFrames = g.sink, .seenFrames = g.attention}));
    CHECK((cache.store().bytes() > static_cast<size_t>(2 * g.capacity * kFrame * kWidth * 2)) == (arithmetic == AttentionArithmetic::Int8));
    int64_t start = 0;
    for (const int64_t frames : blocks) {
      for (int again = 0; again < 2; ++again) {
        const int64_t n = frames * kFrame;
        const KvPass pass = cache.begin(start, frames);
        std::vector<int32_t> at;
        for (int64_t i = 0; i < frames; ++i) at.push_back(static_cast<int32_t>(start + i));
        AppendArgs append;
        append.in = d.activation({n, kWidth}, random(n * kWidth)), append.key = key.get(), append.value = value.get(), append.norm = {norm, 1e-6f};
        append.rotation = {&tables, at}, append.writes = &pass.writes, append.scratch = d.activation({n, kWidth});
        cache.store().append(append);
        AttendArgs attend;
        attend.q = d.activation({n, kWidth}, random(n * kWidth)), attend.out = d.activation({n, kWidth}), attend.norm = {norm, 1e-6f};
        attend.rotation = {&tables, at}, attend.slots = at, attend.visible = &pass.visible, attend.scale = 0.09f;
        cache.store().attend(attend);
        outputs[arithmetic == AttentionArithmetic::Int8].push_back(d.get(attend.out));
      }
      start += frames;
    }
  }
  double difference = 0, all = 0;
  for (size_t i = 0; i < outputs[0].size(); ++i) {
    for (size_t j = 0; j < outputs[0][i].size(); ++j) {
      const double want = outputs[0][i][j], got = outputs[1][i][j];
      difference += (got - want) * (got - want), all += want * want;
    }
  }
  return std::sqrt(difference / all);
}

TEST("cuda: 8-bit attention keeps pages for blocks that are no pages, and for more blocks than it takes runs") {
  for (const auto& [g, blocks] : {std::pair<KvGeometry, std::vector<int64_t>>{{12, 12, 3}, {3, 3, 3, 3, 3}}, {{9, 9, 3}, {1, 3, 3, 3, 3}},
                                  {{7, 7, 1}, {2, 2, 2, 2, 2}}, {{10, 10, 2}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}}}) {
    const double error = eightBitStoreError(g, blocks);
    if (!(error > 1e-3 && error < 0.03)) std::fprintf(stderr, "blocks of %d in %d: %g\n", static_cast<int>(blocks.back()), static_cast<int>(g.capacity), error);
    CHECK(error > 1e-3 && error < 0.03);
  }
}

TEST("cuda: key ranges become runs") {
  using cuda::planKeys;
  const KeyRange ring[] = {{0, 3}, {9, 3}, {3, 6}};
  const cuda::KeyRuns a = planKeys(ring, 12);
  CHECK(a.size == 3 && a.total == 12 && a.tiles(4) == 4);
  const KeyRange straight[] = {{0, 3}, {3, 0}, {3, 9}};
  const cuda::KeyRuns b = planKeys(straight, 12);
  CHECK(b.size == 1 && b.begin[0] == 0 && b.count[0] == 12 && b.tiles(5) == 3);
  const KeyRange outside[] = {{10, 3}}, nothing[] = {{4, 0}};
  CHECK_THROWS(planKeys(outside, 12), std::logic_error);
  CHECK_THROWS(planKeys(nothing, 12), std::logic_error);
}

TEST("cuda: a grid that stays takes every tile of keys once") {
  // The first is a block of three latents on an H100: 18 pairs and an odd tile of queries for each of twelve heads.
  struct Case { int heads; int64_t queryTiles, tiles; bool mayCut, cut, odd; };
  for (const Case& c : {Case{12, 37, 107, true, true, true}, Case{12, 37, 108, true, true, true}, Case{12, 37, 147, false, false, false},
                        Case{12, 74, 147, true, true, false}, Case{12, 37, 1, true, false, false}, Case{12, 66, 147, true, false, false},
                        Case{40, 66, 110, true, false, false}, Case{131, 2, 40, true, false, false}, Case{7, 2, 9, true, true, false}, Case{7, 1, 19, true, true, true},
                        Case{24, 1, 3, true, false, false}, Case{133, 2, 300, true, true, false}, Case{1, 3, 40, true, true, true}, Case{60, 3, 300, true, true, false}}) {
    const int atOnce = c.heads == 12 ? 66 : 132;
    const cuda::AttentionSchedule s = cuda::AttentionSchedule::plan(c.heads, c.queryTiles, c.tiles, atOnce, c.mayCut);
    CHECK(s.cut == c.cut && s.odd == c.odd && s.blocks <= atOnce);
    const int64_t queryTiles = c.queryTiles + c.queryTiles % 2;  // the last of which may hold no query
    std::vector<int> taken(static_cast<size_t>(c.heads * queryTiles * c.tiles));
    std::vector<std::vector<int>> slots(static_cast<size_t>(s.units() + c.heads));  // of every unit, by key
    int64_t most = 0, all = 0;
    for (int block = 0; block < s.blocks; ++block) {
      int64_t load = 0;
      for (int number = 0;; ++number) {
        const cuda::AttentionPart part = s.part(block, number, 0), other = s.part(block, number, 1);
        CHECK(part.tiles == other.tiles && part.slot == other.slot && part.slot < s.slots());
        if (part.tiles == 0) break;
        const bool paired = part.at.paired;
        CHECK(other.at.paired == paired && other.at.head == part.at.head && other.at.queryTile == part.at.queryTile + (paired ? 1 : 0));
        CHECK(part.present == part.tiles && (paired ? other.firstTile == part.firstTile && other.present == other.tiles : other.present >= other.tiles - 1));
        for (const cuda::AttentionPart& p : {part, other})
          for (int i = 0; i < p.present; ++i) ++taken[static_cast<size_t>((p.at.head * queryTiles + p.at.queryTile) * c.tiles + p.firstTile + i)];
        CHECK(other.firstTile < c.tiles);
        const int unit = paired ? part.at.head * s.pairs + part.at.queryTile / 2 : s.units() + part.at.head;
        if (part.slot >= 0) slots[static_cast<size_t>(unit)].push_back(part.slot);
        else CHECK(paired && part.firstTile == 0 && part.tiles == c.tiles);
        load += part.tiles;
      }
      most = std::max(most, load), all += load;
    }
    for (int head = 0; head < c.heads; ++head)
      for (int64_t i = 0; i < queryTiles * c.tiles; ++i)
        CHECK(taken[static_cast<size_t>(head * queryTiles * c.tiles + i)] == (s.odd && i >= c.queryTiles * c.tiles ? 0 : 1));
    if (c.cut) CHECK(most <= (all + s.blocks - 1) / s.blocks + 1);
    for (int i = 0; s.cut && i < s.cutUnits(); ++i) {
      std::vector<int> listed;
      s.eachSlot(i, [&](int slot) { listed.push_back(slot); });
      CHECK(listed == slots[static_cast<size_t>(s.turns * s.blocks + i)]);
    }
  }
  CHECK(cuda::AttentionParts::bytes(2 * 66) <= static_cast<size_t>(cuda::kWorkspaceBytes));  // what parts take on an H100
}

TEST("cuda: a linear layer's units take every tile once") {
  for (int rowTiles : {1, 2, 3, 37, 110})
    for (int columnTiles : {1, 2, 6, 7, 35}) {
      const cuda::LinearUnits units{rowTiles, columnTiles, 1};
      std::vector<int> taken(static_cast<size_t>(rowTiles * columnTiles));
      for (int unit = 0; unit < units.count(); ++unit)
        for (int rank = 0; rank < cuda::kLinearPair; ++rank) {
          const cuda::LinearTile at = units.tile(unit, rank);
          CHECK(at.row < rowTiles && (unit < units.shared()) == (at.column == units.tile(unit, 1 - rank).column));
          if (at.column < columnTiles) ++taken[static_cast<size_t>(at.row * columnTiles + at.column)];
          else CHECK(unit == units.count() - 1 && rank == 1 && rowTiles % 2 == 1 && columnTiles % 2 == 1);
        }
      CHECK(std::count(taken.begin(), taken.end(), 1) == rowTiles * columnTiles);
    }
  // A block of three latents on an H100: two turns instead of two wider ones, ten instead of eleven; nine latents are recached in five.
  CHECK(cuda::linearWidth(4680, 1536, 66) == 224 && cuda::linearWidth(4680, 8960, 66) == 256 && cuda::linearWidth(14040, 1536, 66) == 256);
  CHECK(cuda::LinearUnits::of(4680, 1536, 1536, 224).count() == 130 && cuda::LinearUnits::of(4680, 8960, 1536, 256).count() == 648);
}

TEST("cuda: tiles of keys are found by number") {
  cuda::KeyRuns runs;
  runs.size = 2, runs.total = 12, runs.begin[0] = 20, runs.count[0] = 5, runs.count[1] = 7;
  cuda::KeyTiles walked;
  for (int64_t i = 0; i < runs.tiles(3); ++i) {
    cuda::KeyTiles found;
    walked.next(runs, 3), found.at(runs, 3, i);
    CHECK(found.first == walked.first && found.index == walked.index && found.count == walked.count && found.seen == walked.seen);
  }
  CHECK(walked.seen == 12);
}

TEST("cuda: tiles and packed rows") {
  CHECK(cuda::tileColumns(1536) == 128 && cuda::tileColumns(96) == 96 && cuda::tileColumns(192) == 96 && cuda::tileColumns(64) == 64 &&
        cuda::tileColumns(3) == 32 && cuda::tileColumns(384) == 128);
  CHECK(cuda::operandFor(Precision::INT8, 24) == cuda::Operand::Bf16 && cuda::operandFor(Precision::BF16, 3) == cuda::Operand::F32 &&
        cuda::operandFor(Precision::FP32, 64) == cuda::Operand::F32 && cuda::operandFor(Precision::INT8, 64) == cuda::Operand::Int8);
  const float weight[] = {1, -2, 127, 0.5f, 0, 0};
  const cuda::HostMatrix m = cuda::packRows(weight, 2, 3, cuda::Operand::Int8);
  CHECK(m.stride == 64 && m.bytes.size() == 128 && m.columnScale[0] == 1.0f && static_cast<int8_t>(m.bytes[1]) == -2 &&
        static_cast<int8_t>(m.bytes[64]) == 127 && m.bytes[3] == 0);
}

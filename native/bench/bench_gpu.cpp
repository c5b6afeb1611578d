// The benchmarks of the full-size model (1.3B shapes, 832 x 480, 4 steps, window 12, sink 3) with random weights, whose
// values do not change the speed. Written against Backend alone, so that the same program measures every backend and is
// tested without a device.
//
//   bench_gpu [--device cuda|cpu] [--precision fp32|bf16|int8|fp8] [--attention full|int8] [--relative] [--isa NAME] [--only PART]
//             [--blocks N] [--small] [--json FILE]
//
// PART: ceilings, check (the fast linear layers, attention and convolutions against the plain ones, at the sizes that are measured, and
// whole blocks with graphs and lanes against single launches; ends in failure where the former differ by more than rounding explains, or
// the latter in a bit), kernels, tiny (blocks with the tiny decoder), full (blocks with the Wan VAE), text (prompts through UMT5-XXL),
// quality (latents against bf16 on the same noise, where there is a difference); or, of check and kernels, the convolutions alone:
// check-conv, conv. --relative takes positions by slot instead of absolute ones, --small toy sizes, to see that everything runs. Times
// are taken on the host around work that ends in synchronize(): single kernels by many launches back to back, blocks one by one.
#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "longlive/error.h"
#include "longlive/names.h"
#include "model/frame_decoder.h"
#include "model/sampler.h"
#include "model/umt5.h"
#include "test/synthetic_package.h"

using namespace longlive;

namespace {

struct Options {
  std::string device = "cuda", only, json;
  BackendOptions backend;
  int64_t blocks = 40;
  bool small = false, relative = false;
};

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double mean(const std::vector<double>& v) { return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size()); }

double quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[std::min(v.size() - 1, static_cast<size_t>(q * static_cast<double>(v.size())))];
}

// -- results ------------------------------------------------------------------------------------------------------------------

std::string quoted(const std::string& s) {
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    if (c >= ' ') out += c;
  }
  return out + "\"";
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", x);
  return std::isfinite(x) ? text : "null";
}

class Results {
 public:
  Results(const Options& options, DeviceInfo device) : options_(options), device_(std::move(device)) {}

  void kernel(const std::string& name, double ms, double operations, double bytes) {
    std::printf("  %-46s %9.4f ms %9.1f TFLOP/s %9.1f GB/s\n", name.c_str(), ms, operations / ms * 1e-9, bytes / ms * 1e-6);
    put(kernels_, name, ",\"ms\":" + number(ms) + ",\"operations\":" + number(operations) + ",\"bytes\":" + number(bytes) + "}");
  }
  void value(const std::string& name, double x, const char* unit) {
    std::printf("  %-62s %10.5g %s\n", name.c_str(), x, unit);
    const std::string result = std::isfinite(x) ? ",\"value\":" + number(x) : ",\"error\":\"not a number\"";
    put(values_, name, result + ",\"unit\":" + quoted(unit) + "}");
  }
  // Written beside and moved into place after every entry: what was measured stays if a time limit ends the run.
  void write() const {
    const Options& o = options_;
    const DeviceInfo& d = device_;
    if (o.json.empty()) return;
    const std::string beside = o.json + ".part";
    std::FILE* f = std::fopen(beside.c_str(), "w");
    if (!f) throw Error(ErrorCode::InvalidArgument, "cannot write " + beside);
    std::fprintf(f, "{\"device\":%s,\"isa\":%s,\"precision\":\"%s\",\"attention\":\"%s\",\"rope\":\"%s\",\"small\":%s,\n\"kernels\":[%s],\n\"values\":[%s]}\n",
                 quoted(d.name).c_str(), quoted(d.isa).c_str(), nameOf(o.backend.precision), nameOf(o.backend.attention),
                 o.relative ? "relative" : "absolute", o.small ? "true" : "false", joined(kernels_).c_str(), joined(values_).c_str());
    if (std::fclose(f) != 0 || std::rename(beside.c_str(), o.json.c_str()) != 0) throw Error(ErrorCode::InvalidArgument, "cannot write " + o.json);
  }

 private:
  struct Entry { std::string name, json; };

  // What is measured again takes the place of what was.
  void put(std::vector<Entry>& list, const std::string& name, const std::string& rest) {
    auto at = std::find_if(list.begin(), list.end(), [&](const Entry& e) { return e.name == name; });
    if (at == list.end()) at = list.insert(at, {name, ""});
    at->json = "{\"name\":" + quoted(name) + rest;
    write();
  }
  static std::string joined(const std::vector<Entry>& list) {
    std::string all;
    for (const Entry& e : list) all += (all.empty() ? "" : ",\n") + e.json;
    return all;
  }

  const Options& options_;
  DeviceInfo device_;
  std::vector<Entry> kernels_, values_;
};

// -- single kernels -----------------------------------------------------------------------------------------------------------

class Kernels {
 public:
  Kernels(Backend& backend, Results& results, bool small) : b_(backend), results_(results), small_(small) {}

  // Two times: what a copy and a large product reach.
  void ceilings() {
    const int64_t n = small_ ? 1 << 12 : int64_t{1} << 29, size = small_ ? 64 : 8192;
    {
      const Tensor from = random(DType::F32, {n}), to = empty(DType::F32, {n});
      measure("copy, " + std::to_string(4 * n >> 20) + " MiB", 0, 8.0 * static_cast<double>(n), [&] { b_.copy(to, from); });
      storage_.clear();
    }
    const Tensor x = activation({size, size}), y = activation({size, size});
    const auto w = weights(size, size);
    measure("product " + std::to_string(size) + "^3", 2.0 * std::pow(static_cast<double>(size), 3), 3.0 * size * size * element(),
            [&] { b_.linear(y, x, *w); });
    storage_.clear();
  }

  void model() {
    const DitConfig c;
    const int64_t n = small_ ? 24 : 4680, dim = small_ ? 96 : c.dim, ffn = small_ ? 256 : c.ffnDim, heads = small_ ? 3 : c.numHeads;
    const int64_t keys = 4 * n, gridW = small_ ? 2 : 52, gridH = small_ ? 4 : 30;
    const double e = element();
    const Tensor x = activation({n, dim}), y = activation({n, dim}), row = activation({1, dim});
    const LinearRows normed = rowsFor(b_, n, dim), hidden = rowsFor(b_, n, ffn);
    const double r = static_cast<double>(sizeOf(normed.values.dtype));
    const auto square = weights(dim, dim), up = weights(ffn, dim), down = weights(dim, ffn);
    const double nd = static_cast<double>(n * dim), nf = static_cast<double>(n * ffn);
    measure("layer norm, modulate", 0, (e + r) * nd, [&] { b_.layerNormModulate(normed, x, row, row, 1e-6f); });
    measure("linear dim -> dim", 2 * nd * dim, (e + r) * nd + r * dim * dim, [&] { b_.linear(y, normed, *square); });
    measure("linear dim -> dim, gate, residual", 2 * nd * dim, 3 * e * nd + r * dim * dim,
            [&] { b_.linear(y, x, *square, {.residual = y, .gate = row}); });
    measure("linear dim -> ffn, gelu", 2 * nd * ffn, r * (nd + nf + dim * ffn),
            [&] { b_.linear(hidden, normed, *up, {.activation = Activation::GeluTanh}); });
    measure("linear ffn -> dim, gate, residual", 2 * nf * dim, 2 * e * nd + r * (nf + dim * ffn),
            [&] { b_.linear(y, hidden, *down, {.residual = y, .gate = row}); });
    Parameters parameters(b_);
    const RopeTables rope = makeRopeTables(parameters, dim / heads, 10000, 64, gridH, gridW);
    std::vector<int32_t> frames;
    for (int64_t i = 0; i < n / (gridH * gridW); ++i) frames.push_back(static_cast<int32_t>(i));
    measure("rms norm, rotation", 0, e * 2 * nd, [&] { b_.rmsNormRope(y, x, row.view({dim}), 1e-6f, heads, rope, frames); });
    const Tensor k = activation({keys, dim}), v = activation({keys, dim});
    for (int64_t visible : {n, 2 * n, 3 * n, 4 * n}) attention(y, x, k, v, heads, visible, true, "self-attention, keys ");
    attention(y, x, k, v, heads, small_ ? 7 : 64, false, "cross-attention, keys ");
    storage_.clear();
  }

  // The same calls on this backend and on `plain`, which shares its memory. No golden case has these sizes.
  bool check(Backend& plain, bool eightBit) {
    const DitConfig c;
    const int64_t n = small_ ? 200 : 4680, dim = small_ ? 128 : c.dim, ffn = small_ ? 256 : c.ffnDim, heads = small_ ? 1 : c.numHeads;
    const int64_t keys = 4 * n, text = small_ ? 64 : c.textDim;
    const Tensor x = activation({n, dim}), hidden = activation({n, ffn}), words = activation({41, text}), row = activation({1, dim}), rest = activation({n, dim});
    bool same = true;
    const auto compare = [&](const std::string& name, const Tensor& got, double limit, const std::function<void(Backend&, const Tensor&)>& work) {
      same = agrees(plain, name, got, limit, work) && same;
    };
    const auto layer = [&](const char* name, const Tensor& in, int64_t out, const Epilogue& e, bool sensitive) {
      const int64_t depth = in.shape[1];
      const std::vector<float> w = values(out * depth, depth), bias = values(out, 100);
      const auto fast = b_.prepareLinear(w.data(), bias.data(), out, depth, sensitive), slow = plain.prepareLinear(w.data(), bias.data(), out, depth, sensitive);
      compare(name, activation({in.shape[0], out}), eightBit && !sensitive ? 0.1 : 0.02,
              [&](Backend& b, const Tensor& to) { b.linear(to, in, &b == &b_ ? *fast : *slow, e); });
    };
    layer("linear dim -> dim", x, dim, {}, false);
    layer("linear dim -> dim, residual", x, dim, {.residual = rest}, false);
    layer("linear dim -> dim, gate, residual", x, dim, {.residual = rest, .gate = row}, false);
    layer("linear dim -> ffn, gelu", x, ffn, {.activation = Activation::GeluTanh}, false);
    layer("linear ffn -> dim, gate, residual", hidden, dim, {.residual = rest, .gate = row}, false);
    layer("linear text -> dim, gelu", words, dim, {.activation = Activation::GeluTanh}, true);
    {
      const std::vector<float> w1 = values(ffn * dim, dim), w2 = values(dim * ffn, ffn);
      compare("layer norm and feed-forward", activation({n, dim}), eightBit ? 0.1 : 0.02, [&](Backend& b, const Tensor& to) {
        const auto up = b.prepareLinear(w1.data(), nullptr, ffn, dim), down = b.prepareLinear(w2.data(), nullptr, dim, ffn);
        const LinearRows normed = rowsFor(b, n, dim), inner = rowsFor(b, n, ffn);
        b.layerNormModulate(normed, x, row, row, 1e-6f);
        b.linear(inner, normed, *up, {.activation = Activation::GeluTanh});
        b.linear(to, inner, *down, {.residual = rest, .gate = row});
        b.synchronize();  // before the weights go
      });
    }
    const Tensor k = activation({keys, dim}), v = activation({keys, dim});
    const auto attend = [&](const std::string& name, const std::vector<KeyRange>& ranges, bool self) {
      compare(name, activation({n, dim}), eightBit && self ? 0.25 : 0.02, [&](Backend& b, const Tensor& to) {
        AttentionArgs a;
        a.out = to, a.q = x, a.k = k, a.v = v, a.visible = ranges, a.heads = heads, a.eightBit = self;
        a.scale = 8.0f / std::sqrt(static_cast<float>(dim / heads));  // a few keys count, so that mixed up ones show
        if (!self) a.lastKeyLogBias = 5.0f;
        b.attention(a);
      });
    };
    const auto attendKept = [&](int64_t pages) {
      compare("self-attention, kept, pages " + std::to_string(pages), activation({n, dim}), 0.25, [&](Backend& b, const Tensor& to) {
        const KeyRange all{0, pages * n};
        AttentionArgs a;
        a.out = to, a.q = x, a.k = k, a.v = v, a.visible = {&all, 1}, a.heads = heads, a.eightBit = true;
        a.scale = 8.0f / std::sqrt(static_cast<float>(dim / heads));
        if (const int64_t room = b.keptBytes(keys, n, dim, heads)) {
          a.kept = {empty(DType::I8, {room}), n};
          b.keep(a.kept, v, k, heads, a.visible, true);  // something else
          for (int64_t p = 0; p < pages; ++p) {
            const KeyRange one{p * n, n};
            b.keep(a.kept, k, v, heads, {&one, 1}, p == 0);
          }
        }
        b.attention(a);
      });
    };
    const auto twoRuns = [&](int64_t visible) { return std::vector<KeyRange>{{keys - visible / 2, visible / 2}, {0, visible - visible / 2}}; };
    for (int64_t visible : {n, 2 * n, 3 * n, 4 * n}) attend("self-attention, keys " + std::to_string(visible), twoRuns(visible), true);
    if (eightBit) attendKept(2), attendKept(4);
    attend("self-attention, one tile and a key less", {{5, 127}}, true);
    attend("self-attention, three frames here and there", {{2 * n, n / 3}, {0, n / 3}, {n, n / 3}}, true);
    attend("cross-attention, keys 41", twoRuns(41), false);
    storage_.clear();
    return same;
  }

  // Convolutions likewise: full-size volumes of both decoders, and small ones with tails in every direction.
  bool checkConvolutions(Backend& plain) {
    if (plain.convType() != b_.convType()) return true;  // processors differ in what they take
    bool same = true;
    struct Case {
      const char* name;
      int64_t frames, h, w, in, out;
      int kt, k;
      int64_t history = 0;
      bool upsample = false, relu = false, residual = false, after = false, floats = false;
    };
    const auto convolve = [&](const Case& c) {
      const int64_t h = small_ ? std::min<int64_t>(c.h, 10) : c.h, w = small_ ? std::min<int64_t>(c.w, 12) : c.w, taps = c.kt * c.k * c.k;
      const int64_t in = small_ ? std::min<int64_t>(c.in, 32) : c.in, out = small_ ? std::min<int64_t>(c.out, 32) : c.out, scale = c.upsample ? 2 : 1;
      const std::vector<float> weight = values(out * in * taps, in * taps), bias = values(out, 100);
      const auto prepare = [&](Backend& b) { return b.prepareConv(weight.data(), bias.data(), out, in, c.kt, c.k, c.k, false, c.upsample); };
      const auto fast = prepare(b_), slow = prepare(plain);
      const Shape shape{c.frames, scale * h, scale * w, out};
      const DType type = c.floats ? DType::F32 : b_.activationType();
      Backend::ConvArgs a;
      a.in = picture({c.frames, h, w, in});
      if (c.history) a.history = picture({c.history, h, w, in});
      if (c.residual) a.residual = random(type, shape);
      a.upsample2x = c.upsample, a.activation = c.relu ? Activation::Relu : Activation::None, a.activationAfterResidual = c.after;
      const auto work = [&](Backend& b, const Tensor& to) {
        Backend::ConvArgs call = a;
        call.out = to, call.weights = &b == &b_ ? fast.get() : slow.get();
        b.conv(call);
      };
      same = agrees(plain, std::string("conv ") + c.name, empty(type, shape), 0.02, work) && same;
      storage_.clear();
    };
    convolve({.name = "1x1x1, 64 to 64", .frames = 1, .h = 16, .w = 32, .in = 64, .out = 64, .kt = 1, .k = 1});  // one tile, one tap: the first to look at
    convolve({.name = "3x3, 64 to 64, one tile", .frames = 1, .h = 16, .w = 32, .in = 64, .out = 64, .kt = 1, .k = 3});
    convolve({.name = "3x3, 96 to 96, one tile", .frames = 1, .h = 16, .w = 32, .in = 96, .out = 96, .kt = 1, .k = 3});
    convolve({.name = "3x3x3, 384 to 384, 26 x 30", .frames = 2, .h = 26, .w = 30, .in = 384, .out = 384, .kt = 3, .k = 3, .history = 1});
    convolve({.name = "3x3x3, 192 to 384, tails", .frames = 3, .h = 19, .w = 37, .in = 192, .out = 384, .kt = 3, .k = 3, .floats = true});
    convolve({.name = "3x3x3, 384 channels, residual", .frames = 1, .h = 60, .w = 104, .in = 384, .out = 384, .kt = 3, .k = 3, .history = 2, .residual = true, .floats = true});
    convolve({.name = "3x3x3, 384 channels, wide", .frames = 2, .h = 120, .w = 208, .in = 384, .out = 384, .kt = 3, .k = 3, .history = 2, .floats = true});
    convolve({.name = "3x3x3, 192 channels, residual", .frames = 2, .h = 240, .w = 416, .in = 192, .out = 192, .kt = 3, .k = 3, .history = 2, .residual = true, .floats = true});
    convolve({.name = "3x3x3, 96 channels", .frames = 2, .h = 480, .w = 832, .in = 96, .out = 96, .kt = 3, .k = 3, .history = 2, .floats = true});
    convolve({.name = "3x3x3, 96 channels, first frame, residual", .frames = 1, .h = 480, .w = 832, .in = 96, .out = 96, .kt = 3, .k = 3, .residual = true, .floats = true});
    convolve({.name = "3x3x3, 64 channels", .frames = 2, .h = 480, .w = 832, .in = 64, .out = 64, .kt = 3, .k = 3, .history = 2});
    convolve({.name = "2x3x3, 64 channels, relu", .frames = 2, .h = 240, .w = 416, .in = 64, .out = 64, .kt = 2, .k = 3, .history = 1, .relu = true});
    convolve({.name = "3x3, 128 channels, residual, relu", .frames = 1, .h = 120, .w = 208, .in = 128, .out = 128, .kt = 1, .k = 3, .relu = true, .residual = true, .after = true});
    convolve({.name = "3x3, 256 channels, relu, residual", .frames = 1, .h = 60, .w = 104, .in = 256, .out = 256, .kt = 1, .k = 3, .relu = true, .residual = true});
    convolve({.name = "3x3, 96 channels", .frames = 2, .h = 480, .w = 832, .in = 96, .out = 96, .kt = 1, .k = 3});
    convolve({.name = "upsampling, 384 to 192", .frames = 2, .h = 60, .w = 104, .in = 384, .out = 192, .kt = 1, .k = 3, .upsample = true, .floats = true});
    convolve({.name = "upsampling, 192 to 96", .frames = 2, .h = 240, .w = 416, .in = 192, .out = 96, .kt = 1, .k = 3, .upsample = true, .floats = true});
    convolve({.name = "upsampling, 64 to 64, relu", .frames = 1, .h = 53, .w = 71, .in = 64, .out = 64, .kt = 1, .k = 3, .upsample = true, .relu = true});
    convolve({.name = "3x3x3 to RGB, 96 channels", .frames = 2, .h = 480, .w = 832, .in = 96, .out = 3, .kt = 3, .k = 3, .history = 2, .floats = true});
    convolve({.name = "3x3 to RGB, 64 channels", .frames = 2, .h = 480, .w = 832, .in = 64, .out = 3, .kt = 1, .k = 3, .floats = true});
    return same;
  }

  void pictures() {
    const int64_t h = small_ ? 8 : 480, w = small_ ? 16 : 832, frames = small_ ? 1 : 4;
    const double pixels = static_cast<double>(frames * h * w), e = element();
    for (int64_t channels : small_ ? std::vector<int64_t>{16} : std::vector<int64_t>{64, 96}) {
      const Tensor x = picture({frames, h, w, channels}), y = picture({frames, h, w, channels}), past = picture({2, h, w, channels});
      const auto volume = convolution(channels, channels, 3), flat = convolution(channels, channels, 1), out = convolution(3, channels, 3);
      const Tensor rgb = empty(DType::F32, {frames, h, w, 3});
      Backend::ConvArgs a;
      a.out = y, a.in = x, a.history = past, a.weights = volume.get();
      const std::string label = ", " + std::to_string(channels) + " channels, full size";
      measure("conv 3x3x3" + label, 54 * pixels * channels * channels, 2 * e * pixels * channels, [&] { b_.conv(a); });
      a.weights = flat.get(), a.history = {};
      measure("conv 3x3" + label, 18 * pixels * channels * channels, 2 * e * pixels * channels, [&] { b_.conv(a); });
      a.weights = out.get(), a.history = past, a.out = rgb;
      measure("conv 3x3x3 to RGB" + label, 54 * pixels * channels * 3, pixels * (e * channels + 12), [&] { b_.conv(a); });
      const Tensor gamma = random(DType::F32, {channels});
      measure("channel norm, silu" + label, 0, 2 * e * pixels * channels, [&] { b_.channelNorm(y, x, gamma, Activation::Silu); });
      const Tensor bytes = empty(DType::U8, {frames, h, w, 3}), i420 = empty(DType::U8, {frames, h * w * 3 / 2});
      measure("RGB to bytes" + label, 0, 15 * pixels, [&] { b_.toRgb8(bytes, rgb, true); });
      measure("bytes to I420" + label, 0, 4.5 * pixels, [&] { b_.toI420(i420, bytes); });
      storage_.clear();
    }
  }

  // The convolutions of the full decoder that take its time, as often as a latent after the first needs them.
  void decoder() {
    struct Case {
      const char* name;
      int64_t times, frames, h, w, in, out;
      int kt, k;
      bool residual = false, upsample = false;
    };
    const Case cases[] = {{"3x3x3, 384 channels", 5, 1, 60, 104, 384, 384, 3, 3},
                          {"3x3x3, 384 channels, residual", 5, 1, 60, 104, 384, 384, 3, 3, true},
                          {"upsampling, 384 to 192", 1, 2, 60, 104, 384, 192, 1, 3, false, true},
                          {"3x3x3, 192 to 384", 1, 2, 120, 208, 192, 384, 3, 3},
                          {"3x3x3, 384 channels", 2, 2, 120, 208, 384, 384, 3, 3},
                          {"3x3x3, 384 channels, residual", 3, 2, 120, 208, 384, 384, 3, 3, true},
                          {"3x1x1, 384 to 768", 1, 2, 120, 208, 384, 768, 3, 1},
                          {"upsampling, 384 to 192", 1, 4, 120, 208, 384, 192, 1, 3, false, true},
                          {"3x3x3, 192 channels", 3, 4, 240, 416, 192, 192, 3, 3},
                          {"3x3x3, 192 channels, residual", 3, 4, 240, 416, 192, 192, 3, 3, true},
                          {"upsampling, 192 to 96", 1, 4, 240, 416, 192, 96, 1, 3, false, true},
                          {"3x3x3, 96 channels", 3, 4, 480, 832, 96, 96, 3, 3},
                          {"3x3x3, 96 channels, residual", 3, 4, 480, 832, 96, 96, 3, 3, true},
                          {"3x3x3, 96 channels to RGB", 1, 4, 480, 832, 96, 3, 3, 3}};
    double all = 0;
    for (const Case& c : cases) {
      const int64_t h = small_ ? 4 : c.h, w = small_ ? 8 : c.w, in = small_ ? 8 : c.in, out = small_ ? 8 : c.out, scale = c.upsample ? 2 : 1;
      const auto weight = b_.prepareConv(values(out * in * c.kt * c.k * c.k, in * c.kt * c.k * c.k).data(), values(out, 100).data(), out, in, c.kt, c.k, c.k,
                                         false, c.upsample);
      Backend::ConvArgs a;
      a.in = picture({c.frames, h, w, in}), a.out = empty(DType::F32, {c.frames, scale * h, scale * w, out}), a.weights = weight.get();
      if (c.kt > 1) a.history = picture({c.kt - 1, h, w, in});
      if (c.residual) a.residual = random(DType::F32, a.out.shape);
      a.upsample2x = c.upsample;
      const double points = static_cast<double>(c.frames * h * w * in * out * c.kt), taps = c.upsample ? 16 : c.k * c.k;
      const double bytes = element() * static_cast<double>(a.in.elements()) + static_cast<double>(a.out.elements()) * (c.residual ? 8 : 4);
      all += static_cast<double>(c.times) * measure(std::string("decoder, conv ") + c.name + ", " + std::to_string(h) + " x " + std::to_string(w),
                                                    2 * points * taps, bytes, [&] { b_.conv(a); });
      storage_.clear();
    }
    results_.value("full VAE: its convolutions, per latent", all, "ms");
  }

 private:
  double element() const { return static_cast<double>(sizeOf(b_.activationType())); }

  // The same work on this backend and on `plain`: the largest difference, relative to the largest value, is at most `limit`.
  bool agrees(Backend& plain, const std::string& name, const Tensor& got, double limit, const std::function<void(Backend&, const Tensor&)>& work) {
    const Tensor want = empty(got.dtype, got.shape);
    work(b_, got), b_.synchronize();
    work(plain, want), plain.synchronize();
    std::vector<float> a(static_cast<size_t>(got.elements())), e(a.size());
    b_.download(a.data(), got), b_.download(e.data(), want);
    double difference = 0, most = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const double d = std::fabs(static_cast<double>(a[i]) - e[i]);
      difference = std::isnan(d) ? HUGE_VAL : std::max(difference, d), most = std::max(most, std::fabs(static_cast<double>(e[i])));
    }
    const double relative = difference / most;
    results_.value("check: " + name + ", largest difference", relative, "");
    if (relative <= limit) return true;
    std::printf("  FAIL: over the limit of %g\n", limit);
    return false;
  }

  Tensor empty(DType type, Shape shape) {
    Tensor t{nullptr, type, shape};
    storage_.push_back(b_.allocate(t.bytes()));
    t.data = storage_.back()->data;
    return t;
  }
  Tensor random(DType type, Shape shape) {
    const Tensor t = empty(type, shape);
    std::vector<float> v(static_cast<size_t>(std::min<int64_t>(t.elements(), 1 << 20)));
    for (float& f : v) f = random_.uniform();
    for (int64_t at = 0; at < t.elements(); at += static_cast<int64_t>(v.size())) {
      b_.upload(t.view({t.elements()}).rows(at, std::min<int64_t>(static_cast<int64_t>(v.size()), t.elements() - at)), v.data());
    }
    return t;
  }
  // What stands between a norm or a layer and the layers behind it.
  LinearRows rowsFor(const Backend& b, int64_t n, int64_t width) {
    const DType type = b.linearType(width);
    const Tensor t = empty(type, {n, width});
    return type == b.activationType() ? LinearRows(t) : LinearRows(t, empty(DType::F32, {n}));
  }
  Tensor activation(Shape shape) { return random(b_.activationType(), shape); }
  Tensor picture(Shape shape) { return random(b_.convType(), shape); }
  std::vector<float> values(int64_t n, int64_t fan) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& f : v) f = random_.uniform() * std::sqrt(3.0f / static_cast<float>(fan));
    return v;
  }
  std::unique_ptr<LinearWeights> weights(int64_t out, int64_t in) {
    return b_.prepareLinear(values(out * in, in).data(), values(out, 100).data(), out, in);
  }
  std::unique_ptr<ConvWeights> convolution(int64_t out, int64_t in, int kt) {
    return b_.prepareConv(values(out * in * kt * 9, in * kt * 9).data(), values(out, 100).data(), out, in, kt, 3, 3);
  }
  void attention(const Tensor& out, const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, int64_t visible, bool self, const char* name) {
    // Two runs, as a ring gives them.
    const KeyRange ranges[] = {{visible / 2, visible - visible / 2}, {0, visible / 2}};
    AttentionArgs a;
    a.out = out, a.q = q, a.k = k, a.v = v, a.visible = ranges, a.heads = heads, a.eightBit = self;
    const int64_t width = q.shape[1], page = q.shape[0];
    a.scale = 1.0f / std::sqrt(static_cast<float>(width / heads));
    const double operations = 4.0 * static_cast<double>(q.shape[0] * visible * width), bytes = element() * static_cast<double>(2 * (q.shape[0] + visible) * width);
    const int64_t room = self && visible % page == 0 ? b_.keptBytes(k.shape[0], page, width, heads) : 0;
    const std::string keys = name + std::to_string(visible);
    measure(room > 0 ? "nothing kept: " + keys : keys, operations, bytes, [&] { b_.attention(a); });
    if (room == 0) return;
    // As a pass does it: the last page is new.
    const KeyRange all{0, visible}, last{visible - page, page};
    a.kept = {empty(DType::I8, {room}), page}, a.visible = {&all, 1};
    b_.keep(a.kept, k, v, heads, a.visible, true);
    measure(keys, operations, bytes, [&] {
      b_.keep(a.kept, k, v, heads, {&last, 1}, false);
      b_.attention(a);
    });
  }

  // Median of seven rounds; a round is as many launches as fill about 20 ms.
  double measure(const std::string& name, double operations, double bytes, const std::function<void()>& f) {
    const auto round = [&](int n) {
      b_.synchronize();
      const double start = now();
      for (int i = 0; i < n; ++i) f();
      b_.synchronize();
      return (now() - start) / n;
    };
    round(1);  // loads modules, grows scratch, makes plans
    const int count = small_ ? 1 : static_cast<int>(std::clamp(20.0 / std::max(round(3), 1e-3), 1.0, 200.0));
    std::vector<double> times;
    for (int i = 0; i < (small_ ? 1 : 7); ++i) times.push_back(round(count));
    const double ms = quantile(times, 0.5);
    results_.kernel(name, ms, operations, bytes);
    return ms;
  }

  Backend& b_;
  Results& results_;
  bool small_;
  SyntheticWeights random_{5};
  std::vector<std::unique_ptr<Storage>> storage_;
};

// -- the model ----------------------------------------------------------------------------------------------------------------

// One video: what a session does per block, with its parts timed.
class Video {
 public:
  Video(Backend& backend, const Dit& dit, const SamplerPlan& plan, const SamplingConfig& sampling, DecoderModel& decoder, const LatentGrid& grid)
      : b_(backend), sampling_(sampling), noise_(1), sampler_(dit, plan, sampling, geometryOf(sampling), grid),
        decoder_(decoder.createStream(grid.height, grid.width, sampling.framesPerBlock)) {
    const int64_t frames = 4 * sampling.framesPerBlock, h = 8 * grid.height, w = 8 * grid.width;
    arena_ = Arena::plan(b_, [&](Arena& a) {
      if (b_.runsAhead()) shown_ = a.take(DType::F32, sampler_.clean().shape);
      text_ = a.take(b_.activationType(), {kTokens + 1, dit.config().textDim});
      rgb_ = a.take(DType::U8, {frames, h, w, 3});
      i420_ = a.take(DType::U8, {frames, h * w * 3 / 2});
    });
    std::vector<float> v(static_cast<size_t>(text_.elements()));
    SyntheticWeights random(9);
    for (float& f : v) f = random.uniform();
    b_.upload(text_, v.data());
    host_ = b_.allocateHost(i420_.bytes());
    clean_ = b_.makeMark(), decoded_ = b_.makeMark();
    sampler_.setText(text_, kTokens, RecacheMode::Keep);
    decoder_->reset();
  }

  struct Times { double denoise, decode, context; };

  // A block as a session makes it (model/session.cpp): the context pass and the next block's first step are under way while
  // frames are decoded and copied, and are not waited for. Milliseconds until the frames are in host memory.
  double block() {
    const double start = now();
    while (!sampler_.denoised()) sampler_.denoise(noise_, index_);
    if (shown_) b_.copy(shown_, sampler_.clean());
    b_.mark(*clean_);
    if (b_.concurrent()) sampler_.context();
    {
      const LaneScope lane(b_, Lane::Decode);
      b_.follow(*clean_);
      decode();
    }
    if (b_.runsAhead() && sampler_.canStartBlock()) sampler_.denoise(noise_, index_ + 1);
    b_.wait(*decoded_);
    if (!b_.concurrent()) sampler_.context();
    ++index_;
    return now() - start;
  }
  // Its parts one after another.
  Times parts() {
    settle();
    const double start = now();
    while (!sampler_.denoised()) sampler_.denoise(noise_, index_);
    if (shown_) b_.copy(shown_, sampler_.clean());
    b_.synchronize();
    const double denoised = now();
    decode();
    b_.synchronize();
    const double decoded = now();
    sampler_.context();
    b_.synchronize();
    ++index_;
    return {denoised - start, decoded - denoised, now() - decoded};
  }
  double recache() {
    settle();
    return switchPrompt();
  }
  // What a session does when it is told so; the device may have passes to finish and a step to forget.
  double switchPrompt() {
    const double start = now();
    sampler_.abandon();
    sampler_.setText(text_, kTokens, RecacheMode::Recache);
    b_.synchronize();
    return now() - start;
  }
  // The last block's latents and frames, bit for bit.
  std::vector<uint8_t> lastBytes() const {
    const Tensor latents = shown_ ? shown_ : sampler_.clean();
    std::vector<uint8_t> all(latents.bytes() + frames_.bytes());
    b_.downloadBytes(all.data(), latents);
    std::memcpy(all.data() + latents.bytes(), host_->data, frames_.bytes());
    return all;
  }
  size_t memoryBytes() const { return sampler_.memoryBytes() + decoder_->memoryBytes() + arena_.bytes(); }

 private:
  static constexpr int64_t kTokens = 40;

  // Nothing is under way, nothing is taken ahead.
  void settle() {
    sampler_.abandon();
    b_.synchronize();
  }

  void decode() {
    const int64_t frames = decoder_->framesFor(sampling_.framesPerBlock);
    const Tensor rgb = rgb_.rows(0, frames);
    frames_ = i420_.rows(0, frames);
    const auto work = [&] {
      decoder_->decode(shown_ ? shown_ : sampler_.clean(), rgb);
      b_.toI420(frames_, rgb);
    };
    if (index_ == 0) work();
    else b_.replay(decoding_, 0, work);
    b_.copyOut(host_->data, frames_);
    b_.mark(*decoded_);
  }

  Backend& b_;
  SamplingConfig sampling_;
  PhiloxNoise noise_;
  Sampler sampler_;
  std::unique_ptr<FrameDecoder> decoder_;
  Arena arena_;
  Tensor shown_, text_, rgb_, i420_;
  Tensor frames_;  // of the last block, in i420_
  std::unique_ptr<Storage> host_;
  std::unique_ptr<Mark> clean_, decoded_;
  std::unique_ptr<Recording> decoding_;
  int64_t index_ = 0;
};

class Model {
 public:
  Model(Backend& backend, const Options& o) : b_(backend), small_(o.small) {
    if (small_) {
      config_.dit.dim = 96, config_.dit.ffnDim = 256, config_.dit.numHeads = 3, config_.dit.numLayers = 2;
      config_.dit.textDim = 64, config_.dit.textLen = 64;
      config_.vae.dim = 8;
      config_.sampling.windowFrames = 6, config_.sampling.sinkFrames = 1, config_.sampling.framesPerBlock = 2;
    }
    config_.vae.mean.assign(16, 0.0f), config_.vae.std.assign(16, 1.0f);
    // Absolute positions end with the table: the released one's 1024 frames are over after 341 blocks.
    config_.dit.ropeTableLength = std::max(config_.dit.ropeTableLength, config_.sampling.framesPerBlock * (o.blocks + kOtherBlocks));
    if (o.relative) config_.sampling.rope = RopeMode::Relative;
    const double start = now();
    const std::vector<uint8_t> bytes = test::ditFile(config_.dit);
    dit_ = std::make_unique<Dit>(b_, config_.dit, WeightReader(SafeTensors::parse(bytes, "random weights")));
    plan_ = std::make_unique<SamplerPlan>(*dit_, config_.sampling);
    std::printf("%zu MB of weights made and loaded in %.0f s\n", dit_->weightBytes() >> 20, (now() - start) * 1e-3);
  }

  void run(Results& results, bool full, int64_t blocks) {
    SyntheticWeights w(3);
    const auto decoder = full ? wanDecoder(w) : tinyDecoder(w);
    const std::string name = full ? "full VAE: " : "tiny decoder: ";

    {  // a session that starts on a warm process: its second video
      start(*decoder).block();
      Video second = start(*decoder);
      results.value(name + "first chunk, warm", second.block(), "ms");
      results.value(name + "memory of a session", static_cast<double>(second.memoryBytes()) / 1e6, "MB");
    }
    Video video = start(*decoder);
    warm(video);
    parts(results, name, video);
    switches(results, name, video);
    warm(video);
    sustained(results, name, video, blocks);
  }

  // Every block of a video with the tiny decoder, so long that all its passes are replayed, and with prompt switches.
  std::vector<std::vector<uint8_t>> video() {
    SyntheticWeights w(3);
    const auto decoder = tinyDecoder(w);
    Video video = start(*decoder);
    std::vector<std::vector<uint8_t>> all;
    for (int64_t block = 0; block < kReplayedBlocks; ++block) {
      if (block > kReplayedBlocks / 2 && block % 3 == 0) video.switchPrompt();
      video.block();
      all.push_back(video.lastBytes());
    }
    return all;
  }

  // Clean latents of a video's first blocks, block after block.
  std::vector<float> latents() {
    const LatentGrid size = grid();
    Sampler sampler(*dit_, *plan_, config_.sampling, geometryOf(config_.sampling), size);
    PhiloxNoise noise(1);
    const int64_t tokens = std::min<int64_t>(40, config_.dit.textLen - 1), textSize = (tokens + 1) * config_.dit.textDim;
    std::vector<float> text(static_cast<size_t>(textSize));
    SyntheticWeights random(9);
    for (float& f : text) f = random.uniform();
    const auto storage = b_.allocate(static_cast<size_t>(textSize) * sizeOf(b_.activationType()));
    const Tensor embeddings{storage->data, b_.activationType(), {tokens + 1, config_.dit.textDim}};
    b_.upload(embeddings, text.data());
    sampler.setText(embeddings, tokens, RecacheMode::Keep);
    std::vector<float> all;
    for (int64_t block = 0; block < kQualityBlocks; ++block) {
      while (!sampler.denoised()) sampler.denoise(noise, block);
      const size_t size = static_cast<size_t>(sampler.clean().elements());
      all.resize(all.size() + size);
      b_.download(all.data() + all.size() - size, sampler.clean());
      sampler.context();
    }
    return all;
  }

  static constexpr int64_t kQualityBlocks = 6;  // the window is full and has turned
  static constexpr int64_t kReplayedBlocks = 24;
  static constexpr int64_t kOtherBlocks = 64;  // of a video that is measured, before its sustained speed

 private:
  static constexpr double kRecordEvery = 10e3;  // ms

  Video start(DecoderModel& decoder) { return Video(b_, *dit_, *plan_, config_.sampling, decoder, grid()); }

  // Fills the window; every turn of the ring is met twice.
  void warm(Video& video) const {
    for (int i = 0; i < (small_ ? 1 : 16); ++i) video.block();
  }

  void parts(Results& results, const std::string& name, Video& video) const {
    std::vector<double> denoise, decode, context;
    for (int i = 0; i < (small_ ? 1 : 9); ++i) {
      const auto t = video.parts();
      denoise.push_back(t.denoise), decode.push_back(t.decode), context.push_back(t.context);
    }
    results.value(name + "denoise p50", quantile(denoise, 0.5), "ms");
    results.value(name + "decode and copy p50", quantile(decode, 0.5), "ms");
    results.value(name + "context p50", quantile(context, 0.5), "ms");
  }

  void switches(Results& results, const std::string& name, Video& video) const {
    std::vector<double> recache, change, busy;
    for (int i = 0; i < (small_ ? 1 : 5); ++i) {
      recache.push_back(video.recache());
      change.push_back(recache.back() + video.block());
      video.block();
      busy.push_back(video.switchPrompt());
      busy.back() += video.block();
    }
    results.value(name + "recache p50", quantile(recache, 0.5), "ms");
    results.value(name + "prompt switch to first new chunk p50", quantile(change, 0.5), "ms");
    results.value(name + "prompt switch to first new chunk, asked for when frames arrive, p50", quantile(busy, 0.5), "ms");
  }

  // Many blocks back to back. What there is so far is recorded again and again: a time limit may end the run.
  void sustained(Results& results, const std::string& name, Video& video, int64_t blocks) const {
    const double start = now();
    double recorded = 0;
    std::vector<double> ends;
    for (int64_t i = 0; i < blocks; ++i) {
      video.block();
      ends.push_back(now() - start);
      if (i + 1 < blocks && ends.back() - recorded < kRecordEvery) continue;
      recordSustained(results, name, ends);
      recorded = ends.back();
    }
  }

  // From the times at which blocks ended: the speed, and whether it lasts, the last ten seconds against the first ten.
  void recordSustained(Results& results, const std::string& name, const std::vector<double>& ends) const {
    const double frames = 4.0 * static_cast<double>(config_.sampling.framesPerBlock), count = static_cast<double>(ends.size());
    const double end = ends.back(), stretch = std::min(10e3, end / 4);
    std::vector<double> all, first, last;
    for (size_t i = 0; i < ends.size(); ++i) {
      all.push_back(ends[i] - (i == 0 ? 0 : ends[i - 1]));
      if (ends[i] <= stretch) first.push_back(all.back());
      if (ends[i] > end - stretch) last.push_back(all.back());
    }
    results.value(name + "sustained", frames * count / (end * 1e-3), "frames/s");
    results.value(name + "video made", frames * count / 16, "s");
    results.value(name + "block p50", quantile(all, 0.5), "ms");
    results.value(name + "block p99", quantile(all, 0.99), "ms");
    if (!first.empty()) results.value(name + "speed of the last 10 s over the first 10 s", mean(first) / mean(last), "");
  }

  std::unique_ptr<DecoderModel> tinyDecoder(SyntheticWeights& w) const {
    TinyVaeConfig c;
    if (small_) c.channels = {16, 16, 8, 8};
    syntheticTinyDecoder(w, c);
    return loadTinyVae(b_, c, w.file());
  }
  std::unique_ptr<DecoderModel> wanDecoder(SyntheticWeights& w) const {
    syntheticWanDecoder(w, config_.vae);
    return loadWanVae(b_, config_.vae, w.file());
  }

  LatentGrid grid() const { return small_ ? LatentGrid{4, 6} : LatentGrid{60, 104}; }

  Backend& b_;
  bool small_;
  ModelConfig config_;
  std::unique_ptr<Dit> dit_;
  std::unique_ptr<SamplerPlan> plan_;
};

// The latents of a backend against those of bf16 on the same noise: how far they are after a block, and after several, each of
// which has gone on from its own past.
void compareQuality(Results& results, const std::vector<float>& got, const std::vector<float>& want, int64_t blocks) {
  const auto relative = [&](size_t n) {
    double error = 0, size = 0;
    for (size_t i = 0; i < n; ++i) error += std::pow(got[i] - want[i], 2), size += std::pow(want[i], 2);
    return std::sqrt(error / size);
  };
  double squares = 0;
  for (size_t i = 0; i < want.size(); ++i) squares += std::pow(got[i] - want[i], 2);
  const auto [low, high] = std::minmax_element(want.begin(), want.end());
  const std::string several = std::to_string(blocks) + " blocks";
  results.value("latents against bf16, relative error, first block", relative(want.size() / static_cast<size_t>(blocks)), "");
  results.value("latents against bf16, relative error, " + several, relative(want.size()), "");
  results.value("latents against bf16, PSNR, " + several, 20 * std::log10((*high - *low) / std::sqrt(squares / static_cast<double>(want.size()))), "dB");
}

// Graphs and lanes must not change a bit, whatever this backend's kernels are.
bool checkReplayed(Results& results, Backend& backend, const Options& o, Backend& singly) {
  const auto replayed = Model(backend, o).video(), want = Model(singly, o).video();
  int64_t differ = 0;
  for (size_t block = 0; block < want.size(); ++block) differ += replayed[block] != want[block];
  results.value("check: graphs and lanes against single launches, blocks that differ of " + std::to_string(want.size()), static_cast<double>(differ), "");
  if (differ > 0) std::printf("  FAIL: not the same bits\n");
  return differ == 0;
}

// -- text ---------------------------------------------------------------------------------------------------------------------

// UMT5-XXL with weights of one type. All layers are the same bytes, and the vocabulary is short: neither changes a time.
class Text {
 public:
  Text(Backend& backend, bool eightBit, bool small) : b_(backend), type_(eightBit ? DType::I8 : DType::BF16) {
    config_.vocabSize = 512;
    if (small) config_.dim = 64, config_.dimAttn = 64, config_.dimFfn = 96, config_.numHeads = 2, config_.numLayers = 2;
    fill();
    const std::vector<uint8_t> file = this->file();
    encoder_ = std::make_unique<Umt5>(b_, config_, WeightReader(SafeTensors::parse(file, "random weights")));
    matrix_ = {};
  }

  void run(Results& results, bool small) {
    const std::string name = type_ == DType::I8 ? "text encoder, weights in 8 bits: " : "text encoder, weights in bf16: ";
    encoder_->reserve(512);
    results.value(name + "memory of its weights", static_cast<double>(encoder_->weightBytes()) / 1e6, "MB");
    for (int64_t tokens : small ? std::vector<int64_t>{5} : std::vector<int64_t>{40, 200, 512}) {
      const std::vector<int32_t> ids(static_cast<size_t>(tokens), 3);
      std::vector<double> times;
      for (int i = 0; i < (small ? 2 : 10); ++i) {
        const double start = now();
        encoder_->encode(ids, tokens);
        times.push_back(now() - start);
      }
      times.erase(times.begin());  // grows scratch, makes plans
      results.value(name + std::to_string(tokens) + " tokens p50", quantile(times, 0.5), "ms");
    }
  }

 private:
  float largest() const { return std::sqrt(3.0f / static_cast<float>(config_.dim)); }

  // The matrix that all are the beginning of.
  void fill() {
    const TextEncoderConfig& c = config_;
    matrix_.resize(static_cast<size_t>(std::max({c.dimFfn, c.dimAttn, c.vocabSize}) * std::max(c.dim, c.dimAttn)) * sizeOf(type_));
    SyntheticWeights random(7);
    for (size_t at = 0; at < matrix_.size(); at += sizeOf(type_)) {
      const float f = random.uniform();
      if (type_ == DType::I8) matrix_[at] = static_cast<uint8_t>(static_cast<int8_t>(f * 127.0f));
      else putBf16(&matrix_[at], f * largest());
    }
  }
  static void putBf16(uint8_t* to, float f) {
    const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(f) >> 16);
    std::memcpy(to, &bits, sizeof bits);
  }

  std::vector<uint8_t> file() {
    const TextEncoderConfig& c = config_;
    const std::vector<float> ones(static_cast<size_t>(std::max(c.dim, c.numBuckets * c.numHeads)), 1.0f);
    const std::vector<float> scales(static_cast<size_t>(std::max({c.dimFfn, c.dimAttn, c.dim, c.vocabSize})), largest() / 127);
    std::vector<SafeTensors::Entry> entries;
    const auto plain = [&](const std::string& name, Shape shape, const std::vector<float>& values) {
      entries.push_back({name, {const_cast<float*>(values.data()), DType::F32, shape}});
    };
    const auto matrix = [&](const std::string& name, int64_t out, int64_t in) {
      entries.push_back({name + ".weight", {matrix_.data(), type_, {out, in}}});
      if (type_ == DType::I8) plain(name + ".weight_scale", {out}, scales);
    };
    matrix("token_embedding", c.vocabSize, c.dim);
    for (int64_t i = 0; i < c.numLayers; ++i) {
      const std::string block = "blocks." + std::to_string(i) + ".";
      plain(block + "norm1.weight", {c.dim}, ones), plain(block + "norm2.weight", {c.dim}, ones);
      for (const char* part : {"q", "k", "v"}) matrix(block + "attn." + part, c.dimAttn, c.dim);
      matrix(block + "attn.o", c.dim, c.dimAttn);
      matrix(block + "ffn.gate.0", c.dimFfn, c.dim), matrix(block + "ffn.fc1", c.dimFfn, c.dim), matrix(block + "ffn.fc2", c.dim, c.dimFfn);
      plain(block + "pos_embedding.embedding.weight", {c.numBuckets, c.numHeads}, ones);
    }
    plain("norm.weight", {c.dim}, ones);
    return writeSafeTensors(entries, {});
  }

  Backend& b_;
  DType type_;
  TextEncoderConfig config_;
  std::vector<uint8_t> matrix_;
  std::unique_ptr<Umt5> encoder_;
};

// -- the program --------------------------------------------------------------------------------------------------------------

std::unique_ptr<Backend> open(const Options& o) { return o.device == "cuda" ? makeCudaBackend(o.backend) : makeCpuBackend(o.backend); }

bool parse(int argc, char** argv, Options& o) {
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--small" || arg == "--relative") {
      (arg == "--small" ? o.small : o.relative) = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    if (arg == "--device") o.device = value;
    else if (arg == "--isa") o.backend.isa = value;
    else if (arg == "--only") o.only = value;
    else if (arg == "--json") o.json = value;
    else if (arg == "--blocks") o.blocks = std::max(1, std::atoi(value.c_str()));
    else if (arg == "--precision" && precisionNamed(value)) o.backend.precision = *precisionNamed(value);
    else if (arg == "--attention" && attentionNamed(value)) o.backend.attention = *attentionNamed(value);
    else return false;
  }
  return o.device == "cuda" || o.device == "cpu";
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what was measured stays visible if a time limit ends the run
  Options o;
  o.backend.precision = Precision::BF16;
  if (!parse(argc, argv, o)) {
    std::fprintf(stderr, "usage: bench_gpu [--device cuda|cpu] [--precision fp32|bf16|int8|fp8] [--attention full|int8] [--relative] [--isa NAME]\n"
                         "                 [--only ceilings|check|check-conv|kernels|conv|tiny|full|text|quality] [--blocks N] [--small] [--json FILE]\n");
    return 2;
  }
  try {
    const auto backend = open(o);
    const DeviceInfo device = backend->info();
    std::printf("%s, %s\n", device.name.c_str(), device.isa.c_str());
    Results results(o, device);
    const auto wanted = [&](const char* part) { return o.only.empty() || o.only == part; };
    Kernels kernels(*backend, results, o.small);
    if (wanted("ceilings")) kernels.ceilings();
    if (wanted("kernels")) kernels.model();
    if (wanted("kernels") || o.only == "conv") kernels.pictures(), kernels.decoder();
    bool same = true;
    if (wanted("check") || o.only == "check-conv") {
      Options plain = o;
      plain.backend.precision = withoutEightBit(o.backend.precision), plain.backend.attention = AttentionArithmetic::Full;
      plain.backend.isa = o.device == "cuda" ? "plain,eager,one-lane" : "portable";
      const bool eightBit = isEightBit(o.backend.precision) || o.backend.attention != AttentionArithmetic::Full;
      const auto reference = open(plain);
      same = kernels.checkConvolutions(*reference);
      if (wanted("check")) same = kernels.check(*reference, eightBit) && same;
      Options singly = o;
      if (o.device == "cuda") singly.backend.isa += std::string(o.backend.isa.empty() ? "" : ",") + "eager,one-lane";
      if (wanted("check")) same = checkReplayed(results, *backend, o, *open(singly)) && same;
    }
    results.write();
    if (wanted("tiny") || wanted("full")) {
      Model model(*backend, o);
      if (wanted("tiny")) model.run(results, false, o.blocks);
      if (wanted("full")) model.run(results, true, o.blocks);
    }
    if (wanted("text")) {
      for (bool eightBit : {true, false}) Text(*backend, eightBit, o.small).run(results, o.small);
    }
    if (wanted("quality") && (o.backend.precision != Precision::BF16 || o.backend.attention != AttentionArithmetic::Full)) {
      const std::vector<float> got = Model(*backend, o).latents();
      Options bf16 = o;
      bf16.backend.precision = Precision::BF16, bf16.backend.attention = AttentionArithmetic::Full;
      compareQuality(results, got, Model(*open(bf16), bf16).latents(), Model::kQualityBlocks);
    }
    return same ? 0 : 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_gpu: %s\n", e.what());
    return 1;
  }
}

// Single kernels at the shapes of the full-size model: how long each takes, and whether the fast ones agree with the plain ones.
#pragma once

#include "model/config.h"
#include "model/rope.h"
#include "ops/key_values.h"
#include "results.h"
#include "test/synthetic_package.h"

namespace longlive::bench {

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
    measure("layer norm, modulate", 0, (e + r) * nd, [&] { b_.layerNorm(normed, x, NormScale::Modulate, row, row, 1e-6f); });
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
    measure("rms norm, rotation", 0, e * 2 * nd, [&] { b_.rmsNormRope(y, x, row.view({dim}), 1e-6f, heads, {&rope, frames}); });
    const Tensor k = activation({keys, dim}), v = activation({keys, dim});
    for (int64_t blocks : {1, 2, 3, 4}) {
      const bool kept = keptAttention(y, x, normed, heads, blocks, "self-attention, keys ");
      attention(y, x, k, v, heads, blocks * n, true, kept ? "nothing kept: self-attention, keys " : "self-attention, keys ");
    }
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
        b.layerNorm(normed, x, NormScale::Modulate, row, row, 1e-6f);
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
    const Tensor query = activation({n, dim}), scratch = activation({n, dim});
    const std::vector<float> keyValues = values(dim * dim, dim);
    const auto attendKept = [&](int64_t pages) {
      compare("self-attention, kept, pages " + std::to_string(pages), activation({n, dim}), 0.25, [&](Backend& b, const Tensor& to) {
        Video video(b, n, dim, heads, pages, scratch, keyValues, keyValues);
        video.append(v, pages - 1, pages, false);  // something else
        for (int64_t p = 0; p < pages; ++p) video.append(k.rows(p * n, n), p, pages, p > 0);
        b.copy(query, x);
        AttendArgs a;
        a.out = to, a.q = query, a.visible = &video.seen;
        a.scale = 8.0f / std::sqrt(static_cast<float>(dim / heads));
        video.store->attend(a);
        b.synchronize();  // before the store goes
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
  // A store of blocks of so many rows, each a frame, and what fills it.
  struct Video {
    Video(Backend& b, int64_t rows, int64_t width, int64_t heads, int64_t blocks, const Tensor& scratch, const std::vector<float>& keys, const std::vector<float>& values)
        : store(b.makeKeyValues({.frames = blocks, .frameTokens = rows, .width = width, .heads = heads, .blockFrames = 1, .seenFrames = blocks})),
          key_(b.prepareLinear(keys.data(), nullptr, width, width)), value_(b.prepareLinear(values.data(), nullptr, width, width)), parameters_(b),
          rope_(makeRopeTables(parameters_, width / heads, 10000, blocks, 1, rows)),
          norm_(parameters_.add(std::vector<float>(static_cast<size_t>(width), 1.0f), {width}, b.activationType())), scratch_(scratch) {}

    // A block of which `in` are the rows, as one of the first `blocks` that are seen.
    void append(const LinearRows& in, int64_t block, int64_t blocks, bool again) {
      const FrameRuns newest{{0, block, block, 1}};
      seen = {{0, 0, 0, blocks}};
      store->begin(newest, seen, again);
      const auto position = static_cast<int32_t>(block);
      AppendArgs a;
      a.in = in.rows(0, scratch_.shape[0]), a.key = key_.get(), a.value = value_.get(), a.norm = {norm_, 1e-6f};
      a.rotation = {&rope_, {&position, 1}}, a.writes = &newest, a.scratch = scratch_;
      store->append(a);
    }

    std::unique_ptr<KeyValues> store;
    FrameRuns seen;

   private:
    std::unique_ptr<LinearWeights> key_, value_;
    Parameters parameters_;
    RopeTables rope_;
    Tensor norm_, scratch_;
  };

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
    const int64_t width = q.shape[1];
    a.scale = 1.0f / std::sqrt(static_cast<float>(width / heads));
    const double operations = 4.0 * static_cast<double>(q.shape[0] * visible * width), bytes = element() * static_cast<double>(2 * (q.shape[0] + visible) * width);
    measure(name + std::to_string(visible), operations, bytes, [&] { b_.attention(a); });
  }
  // The same through a store, if it keeps what it makes of keys and values. Measured apart: a layer's keys and values of a block, which end in that.
  bool keptAttention(const Tensor& out, const Tensor& q, const LinearRows& in, int64_t heads, int64_t blocks, const char* name) {
    const int64_t rows = q.shape[0], width = q.shape[1], visible = blocks * rows;
    Video video(b_, rows, width, heads, blocks, activation({rows, width}), values(width * width, width), values(width * width, width));
    if (video.store->bytes() <= static_cast<size_t>(2 * visible * width) * sizeOf(b_.kvType())) return false;
    for (int64_t i = 0; i < blocks; ++i) video.append(in, i, i + 1, false);
    AttendArgs attend;
    attend.out = out, attend.q = q, attend.visible = &video.seen, attend.scale = 1.0f / std::sqrt(static_cast<float>(width / heads));
    const double nd = static_cast<double>(rows * width), keys = static_cast<double>(visible);
    measure(name + std::to_string(visible), 4 * nd * keys, element() * 2 * (nd + keys * static_cast<double>(width)), [&] { video.store->attend(attend); });
    measure("keys and values of a block, kept, keys " + std::to_string(visible), 4 * nd * static_cast<double>(width), 5 * element() * nd, [&] { video.append(in, blocks - 1, blocks, true); });
    b_.synchronize();
    return true;
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

}  // namespace longlive::bench

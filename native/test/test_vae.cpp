// Convolution and volume operations against plain loops, on every instruction set of this machine; the video decoders'
// streaming promises at sizes that have no golden case.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "harness.h"
#include "longlive/error.h"
#include "model/frame_decoder.h"
#include "synthetic_vae.h"
#include "wan_vae_encoder.h"

namespace longlive {
namespace {

using Pad = Backend::ConvArgs::Pad;

std::vector<std::unique_ptr<Backend>> backends(Precision precision) {
  std::vector<std::unique_ptr<Backend>> out;
  for (const char* isa : {"portable", "avx2", "avx512", "avx512bf16"}) {
    BackendOptions o;
    o.precision = precision, o.isa = isa, o.threads = 2;
    try {
      out.push_back(makeCpuBackend(o));
    } catch (const Error&) {  // this machine lacks the level
    }
  }
  return out;
}

struct Volume {
  Volume(Backend& b, DType type, Shape shape)
      : backend(b), storage(b.allocate(static_cast<size_t>(shape.elements()) * sizeOf(type) + 1)),
        tensor{storage->data, type, shape} {}
  Volume(Backend& b, DType type, Shape shape, uint64_t seed) : Volume(b, type, shape) {
    SyntheticWeights random(seed);
    std::vector<float> values(shape.elements());
    for (float& v : values) v = random.uniform();
    b.upload(tensor, values.data());
  }
  std::vector<float> values() const {
    std::vector<float> v(tensor.elements());
    backend.download(v.data(), tensor);
    return v;
  }

  Backend& backend;
  std::unique_ptr<Storage> storage;
  Tensor tensor;
};

double worstDifference(const std::vector<float>& got, const std::vector<double>& want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, size = 1e-30;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i])) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, std::fabs(got[i] - want[i])), size = std::max(size, std::fabs(want[i]));
  }
  return difference / size;
}

// ---- convolution ------------------------------------------------------------------------------------------------------

struct ConvCase {
  int64_t frames, height, width, in, out;
  int kt, kh, kw;
  int64_t older = 0;  // frames of history
  int strideT = 1, strideHW = 1;
  Pad pad = Pad::Same;
  bool causal = true, upsample2x = false, residual = false;
  Activation activation = Activation::None;
  bool activationLast = false, sensitive = false;
};

int64_t convSize(int64_t n, int k, int stride, Pad pad) {
  return (n + (pad == Pad::Same ? k - 1 : 1) - k) / stride + 1;
}

double activated(double x, Activation a) {
  return a == Activation::Relu ? std::max(x, 0.0) : a == Activation::Silu ? x / (1 + std::exp(-x)) : x;
}

// The definition, on [history; in] with explicit zeros and explicit upsampling.
std::vector<double> plainConv(const ConvCase& c, const std::vector<float>& in, const std::vector<float>& history,
                              const std::vector<float>& weight, const std::vector<float>& bias,
                              const std::vector<float>& residual, const Shape& outShape) {
  const int scale = c.upsample2x ? 2 : 1;
  const int padding = c.pad == Pad::Same ? 1 : 0;
  const int top = padding * (c.kh - 1) / 2, left = padding * (c.kw - 1) / 2;
  const bool transposed = c.upsample2x && c.kh == 4;
  const auto at = [&](int64_t t, int64_t y, int64_t x, int64_t i) -> double {
    if (y < 0 || x < 0 || y >= scale * c.height || x >= scale * c.width || (transposed && (y % 2 || x % 2))) return 0;
    const std::vector<float>& volume = t >= 0 ? in : history;
    const int64_t frame = t >= 0 ? t : c.older + t;
    if (frame < 0) return 0;
    return volume[((frame * c.height + y / scale) * c.width + x / scale) * c.in + i];
  };
  std::vector<double> out(outShape.elements());
  int64_t n = 0;
  for (int64_t t = 0; t < outShape[0]; ++t)
    for (int64_t y = 0; y < outShape[1]; ++y)
      for (int64_t x = 0; x < outShape[2]; ++x)
        for (int64_t o = 0; o < c.out; ++o, ++n) {
          double sum = bias[o];
          const int64_t first = t * c.strideT - (c.causal ? c.kt - 1 : c.older);
          for (int64_t i = 0; i < c.in; ++i)
            for (int dt = 0; dt < c.kt; ++dt)
              for (int dy = 0; dy < c.kh; ++dy)
                for (int dx = 0; dx < c.kw; ++dx)
                  sum += weight[(((o * c.in + i) * c.kt + dt) * c.kh + dy) * c.kw + dx] *
                         (transposed ? at(first + dt, y + 1 - dy, x + 1 - dx, i)
                                     : at(first + dt, y * c.strideHW + dy - top, x * c.strideHW + dx - left, i));
          const double r = c.residual ? residual[n] : 0;
          out[n] = c.activationLast ? activated(sum + r, c.activation) : activated(sum, c.activation) + r;
        }
  return out;
}

double convError(Backend& b, const ConvCase& c) {
  const int64_t frames = c.causal ? (c.frames + c.strideT - 1) / c.strideT : (c.older + c.frames - c.kt) / c.strideT + 1;
  const int scale = c.upsample2x ? 2 : 1;
  const Shape outShape{frames, scale * convSize(c.height, c.kh, c.strideHW, c.pad),
                       scale * convSize(c.width, c.kw, c.strideHW, c.pad), c.out};
  SyntheticWeights random(4);
  std::vector<float> weight(c.out * c.in * c.kt * c.kh * c.kw), bias(c.out);
  // Small multiples of 1/64 stay exact in bf16 even when upsampling sums four of them; where all is F32 nothing need be.
  for (float& w : weight) w = c.sensitive ? random.uniform() / 4 : std::round(random.uniform() * 16) / 64;
  for (float& v : bias) v = random.uniform();
  const auto weights = b.prepareConv(weight.data(), bias.data(), c.out, c.in, c.kt, c.kh, c.kw, c.sensitive, c.upsample2x);
  Volume in(b, weights->input, {c.frames, c.height, c.width, c.in}, 1);
  Volume history(b, weights->input, {std::max<int64_t>(c.older, 1), c.height, c.width, c.in}, 2);
  Volume out(b, DType::F32, outShape, 3);  // doubles as residual: the two may be one
  const std::vector<float> residual = out.values();
  Backend::ConvArgs a;
  a.out = out.tensor, a.in = in.tensor, a.weights = weights.get();
  if (c.older) a.history = history.tensor;
  if (c.residual) a.residual = out.tensor;
  a.strideT = c.strideT, a.strideHW = c.strideHW, a.pad = c.pad, a.causal = c.causal, a.upsample2x = c.upsample2x;
  a.activation = c.activation, a.activationAfterResidual = c.activationLast;
  b.conv(a);
  return worstDifference(out.values(), plainConv(c, in.values(), history.values(), weight, bias, residual, outShape));
}

// Bytes and weights that are whole multiples of a step, with the largest that there can be in every output channel: nothing is rounded.
double byteConvError(Backend& b, const ConvCase& c) {
  const int scale = c.upsample2x ? 2 : 1;
  const Shape outShape{c.frames, scale * convSize(c.height, c.kh, 1, c.pad), scale * convSize(c.width, c.kw, 1, c.pad), c.out};
  SyntheticWeights random(4);
  const int64_t perChannel = c.in * c.kt * c.kh * c.kw;
  std::vector<float> weight(c.out * perChannel), bias(c.out);
  const float largest = b.info().isa == "avx2" ? 63 : 127;  // whose sums of two products have 16 bits
  for (float& w : weight) w = std::round(random.uniform() * (largest - 1)) / 512;
  for (int64_t o = 0; o < c.out; ++o) weight[o * perChannel] = largest / 512;
  for (float& v : bias) v = random.uniform();
  const auto weights = b.prepareConv(weight.data(), bias.data(), c.out, c.in, c.kt, c.kh, c.kw, false, c.upsample2x, {-1.0f, 6.9375f});
  if (weights->input != DType::U8) return 0;  // no processor for bytes
  CHECK(std::fabs(weights->code.step - 1.0f / 32) < 1e-6 && weights->code.zero == 32);
  const auto bytes = [&](const Shape& shape, std::vector<uint8_t>& memory, std::vector<float>& numbers) {
    for (int64_t i = 0; i < shape.elements(); ++i) {
      memory.push_back(static_cast<uint8_t>((random.uniform() + 1) * 127.5f));
      numbers.push_back((static_cast<float>(memory.back()) - 32) / 32);
    }
    return Tensor{memory.data(), DType::U8, shape};
  };
  std::vector<uint8_t> inBytes, historyBytes;
  std::vector<float> in, history;
  Volume out(b, DType::F32, outShape, 3);
  const std::vector<float> residual = out.values();
  Backend::ConvArgs a;
  a.out = out.tensor, a.weights = weights.get(), a.upsample2x = c.upsample2x, a.activation = c.activation;
  a.in = bytes({c.frames, c.height, c.width, c.in}, inBytes, in);
  if (c.older) a.history = bytes({c.older, c.height, c.width, c.in}, historyBytes, history);
  if (c.residual) a.residual = out.tensor;
  b.conv(a);
  return worstDifference(out.values(), plainConv(c, in, history, weight, bias, residual, outShape));
}

std::vector<ConvCase> convCases() {
  std::vector<ConvCase> cases = {
      {3, 5, 7, 3, 5, 3, 3, 3},                                       // odd everything, no history
      {3, 5, 7, 3, 5, 3, 3, 3, 1},                                    // one of two older frames
      {2, 4, 50, 16, 16, 3, 3, 3, 2},                                 // one block, several tiles, an inner one
      {1, 3, 30, 32, 32, 3, 3, 3, 2},                                 // two blocks
      {1, 3, 13, 8, 40, 3, 3, 3, 2},                                  // ragged channels
      {2, 3, 25, 64, 3, 3, 3, 3, 2},                                  // head
      {1, 1, 1, 16, 16, 3, 3, 3},                                     // a single pixel
      {1, 4, 26, 24, 48, 1, 1, 1},                                    // 1x1
      {4, 3, 6, 16, 32, 3, 1, 1, 2},                                  // time only
      {2, 4, 9, 10, 12, 2, 3, 3, 1},                                  // two taps in time
  };
  ConvCase c{2, 3, 103, 8, 8, 3, 3, 3, 2};  // pixels share vectors: two by two, an odd one at the end
  c.residual = true, cases.push_back(c);
  c = {1, 3, 121, 16, 3, 3, 3, 3, 2}, c.residual = true, cases.push_back(c);  // five by five
  c = {2, 4, 120, 16, 3, 1, 3, 3}, c.activation = Activation::Relu, cases.push_back(c);
  c = {1, 8, 34, 8, 8, 1, 3, 3}, c.strideHW = 2, c.pad = Pad::RightBottom, cases.push_back(c);
  c = {3, 4, 31, 16, 24, 1, 3, 3};
  c.upsample2x = true, cases.push_back(c);
  c = {1, 1, 1, 5, 3, 1, 3, 3}, c.upsample2x = true, cases.push_back(c);
  c = {2, 5, 31, 16, 24, 1, 4, 4}, c.upsample2x = true, cases.push_back(c);
  c = {1, 1, 1, 5, 3, 1, 4, 4}, c.upsample2x = true, cases.push_back(c);
  c = {2, 8, 54, 16, 16, 1, 3, 3}, c.strideHW = 2, c.pad = Pad::RightBottom, cases.push_back(c);
  c = {4, 3, 5, 8, 8, 3, 1, 1, 1}, c.causal = false, c.strideT = 2, cases.push_back(c);
  c = {2, 3, 27, 16, 20, 3, 3, 3, 2}, c.residual = true, cases.push_back(c);
  c.activation = Activation::Relu, cases.push_back(c);
  c.activationLast = true, cases.push_back(c);
  c.activation = Activation::Silu, cases.push_back(c);
  return cases;
}

void checkConv(Precision precision, double tolerance, bool sensitive = false) {
  for (const auto& backend : backends(precision)) {
    int index = 0;
    for (ConvCase c : convCases()) {
      c.sensitive = sensitive;
      const double error = convError(*backend, c);
      if (!(error < tolerance)) std::fprintf(stderr, "%s, case %d: %g\n", backend->info().isa.c_str(), index, error);
      CHECK(error < tolerance);
      ++index;
    }
  }
}

TEST("conv equals its definition in fp32") { checkConv(Precision::FP32, 2e-6); }

// Inputs and weights are exact in bf16, sums are F32: only the order of additions differs.
TEST("conv equals its definition in bf16") { checkConv(Precision::BF16, 2e-6); }

TEST("a sensitive conv is F32 in every precision") {
  for (Precision precision : {Precision::BF16, Precision::INT8}) checkConv(precision, 2e-6, true);
}

TEST("conv gives the same bits on any number of threads") {
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 3}) {
    BackendOptions o;
    o.threads = threads;
    const auto b = makeCpuBackend(o);
    Volume in(*b, b->convType(), {2, 9, 40, 16}, 1), out(*b, DType::F32, {2, 9, 40, 32});
    const std::vector<float> weight(32 * 16 * 27, 0.3f);
    const auto weights = b->prepareConv(weight.data(), nullptr, 32, 16, 3, 3, 3);
    Backend::ConvArgs a;
    a.out = out.tensor, a.in = in.tensor, a.weights = weights.get();
    b->conv(a);
    results.push_back(out.values());
  }
  CHECK(results[0] == results[1] && results[1] == results[2]);
}

TEST("conv refuses shapes that do not fit") {
  const auto b = makeCpuBackend({});
  const std::vector<float> weight(8 * 4 * 27);
  const auto weights = b->prepareConv(weight.data(), nullptr, 8, 4, 3, 3, 3);
  Volume in(*b, b->convType(), {2, 4, 4, 4}), out(*b, DType::F32, {2, 4, 4, 8}), other(*b, DType::F32, {2, 4, 5, 8});
  Backend::ConvArgs good;
  good.out = out.tensor, good.in = in.tensor, good.weights = weights.get();
  b->conv(good);
  Backend::ConvArgs a = good;
  a.out = other.tensor;
  CHECK_THROWS(b->conv(a), std::logic_error);
  a = good, a.in = out.tensor;
  CHECK_THROWS(b->conv(a), std::logic_error);
  a = good, a.residual = other.tensor;
  CHECK_THROWS(b->conv(a), std::logic_error);
  a = good, a.upsample2x = true;
  CHECK_THROWS(b->conv(a), std::logic_error);
  a = good, a.causal = false;
  CHECK_THROWS(b->conv(a), std::logic_error);
  a = good, a.in = in.tensor.rows(0, 1);
  CHECK_THROWS(b->conv(a), std::logic_error);
}

// ---- other volume operations --------------------------------------------------------------------------------------------

TEST("conv of bytes is exact: at every edge, with and without history, of few and many channels") {
  std::vector<ConvCase> cases = {{3, 5, 7, 3, 5, 3, 3, 3}, {3, 5, 7, 3, 5, 3, 3, 3, 1}, {2, 4, 50, 16, 16, 3, 3, 3, 2}, {1, 3, 30, 32, 32, 3, 3, 3, 2},
                                 {1, 3, 13, 8, 40, 3, 3, 3, 2}, {2, 3, 25, 64, 3, 3, 3, 3, 2}, {1, 1, 1, 16, 16, 3, 3, 3}, {1, 4, 26, 24, 48, 1, 1, 1},
                                 {2, 3, 29, 96, 96, 3, 3, 3, 2}, {2, 3, 103, 8, 8, 3, 3, 3, 2}};
  ConvCase c = cases[2];
  c.residual = true, c.activation = Activation::Relu, cases.push_back(c);
  c = {2, 5, 31, 16, 24, 1, 4, 4}, c.upsample2x = true, cases.push_back(c);
  for (const auto& b : backends(Precision::BF16))
    for (const ConvCase& each : cases) CHECK(byteConvError(*b, each) < 2e-6);
}

TEST("channelNorm gives bytes that are its numbers, rounded") {
  for (const auto& b : backends(Precision::BF16)) {
    for (int64_t channels : {3, 16, 40}) {
      const Shape shape{2, 3, 9, channels};
      Volume in(*b, DType::F32, shape, 5), gamma(*b, DType::F32, {channels}, 6), numbers(*b, DType::F32, shape);
      std::vector<uint8_t> bytes(static_cast<size_t>(shape.elements()));
      const ByteCode code{1.0f / 64, 20};
      b->channelNorm(numbers.tensor, in.tensor, gamma.tensor, Activation::Silu);
      b->channelNorm({bytes.data(), DType::U8, shape}, in.tensor, gamma.tensor, Activation::Silu, code);
      const std::vector<float> expected = numbers.values();
      for (size_t i = 0; i < bytes.size(); ++i) {
        const float whole = expected[i] / code.step + code.zero, clamped = std::clamp(whole, 0.0f, 255.0f);
        CHECK(std::fabs(static_cast<float>(bytes[i]) - clamped) < 0.5f + 1e-3f);
      }
    }
  }
}

TEST("channelNorm equals its definition, also for a zero pixel") {
  for (const auto& b : backends(Precision::FP32)) {
    for (int64_t channels : {3, 8, 16, 24, 64, 100}) {
      Volume in(*b, DType::F32, {2, 3, 7, channels}, 5), gamma(*b, DType::F32, {channels}, 6);
      std::fill_n(in.tensor.as<float>(), channels, 0.0f);
      Volume out(*b, DType::F32, in.tensor.shape);
      b->channelNorm(out.tensor, in.tensor, gamma.tensor, Activation::Silu);
      const std::vector<float> x = in.values(), g = gamma.values();
      std::vector<double> want(x.size());
      for (size_t p = 0; p < x.size(); p += channels) {
        double squares = 0;
        for (int64_t c = 0; c < channels; ++c) squares += static_cast<double>(x[p + c]) * x[p + c];
        const double scale = std::sqrt(static_cast<double>(channels)) / std::max(std::sqrt(squares), 1e-12);
        for (int64_t c = 0; c < channels; ++c) want[p + c] = activated(x[p + c] * scale * g[c], Activation::Silu);
      }
      CHECK(worstDifference(out.values(), want) < 1e-6);
      b->channelNorm(in.tensor, in.tensor, gamma.tensor, Activation::Silu);
      CHECK(in.values() == out.values());
    }
  }
}

TEST("SiLU stays finite and exact in the tails") {
  for (const auto& b : backends(Precision::FP32)) {
    Volume in(*b, DType::F32, {1, 1, 1, 16}), gamma(*b, DType::F32, {16}), out(*b, DType::F32, {1, 1, 1, 16});
    const std::vector<float> ones(16, 1.0f);
    std::vector<float> scales(16);
    for (int i = 0; i < 16; ++i) scales[i] = static_cast<float>(i - 8) * 20;
    b->upload(in.tensor, ones.data()), b->upload(gamma.tensor, scales.data());
    b->channelNorm(out.tensor, in.tensor, gamma.tensor, Activation::Silu);
    const std::vector<float> got = out.values();
    for (int i = 0; i < 16; ++i) {
      const double want = scales[i] / (1 + std::exp(-static_cast<double>(scales[i])));
      CHECK(std::fabs(got[i] - want) <= 2e-6 * std::fabs(want) + 1e-30);
    }
  }
}

TEST("channels move to the last axis and back") {
  const auto b = makeCpuBackend({});
  Volume planar(*b, DType::F32, {2, 3, 4, 5}, 8), packed(*b, DType::F32, {2, 4, 5, 3}), back(*b, DType::F32, {2, 3, 4, 5});
  Volume mul(*b, DType::F32, {3}), add(*b, DType::F32, {3});
  b->upload(mul.tensor, std::vector<float>{2, 4, 8}.data());
  b->upload(add.tensor, std::vector<float>{1, 2, 3}.data());
  b->permute(ChannelOrder::Last, packed.tensor, planar.tensor, mul.tensor, add.tensor);
  const std::vector<float> in = planar.values(), out = packed.values();
  CHECK(out[((1 * 4 + 2) * 5 + 3) * 3 + 1] == in[((1 * 3 + 1) * 4 + 2) * 5 + 3] * 4 + 2);
  b->permute(ChannelOrder::Last, packed.tensor, planar.tensor, {}, {});
  b->permute(ChannelOrder::First, back.tensor, packed.tensor, {}, {});
  CHECK(back.values() == in);
}

TEST("splitTime makes channel slices successive frames") {
  const auto b = makeCpuBackend({});
  Volume in(*b, DType::F32, {2, 2, 3, 8}, 9), out(*b, DType::F32, {4, 2, 3, 4});
  b->splitTime(out.tensor, in.tensor, 2);
  const std::vector<float> x = in.values(), y = out.values();
  for (int64_t f = 0; f < 4; ++f)
    for (int64_t p = 0; p < 6; ++p)
      for (int64_t c = 0; c < 4; ++c) CHECK(y[(f * 6 + p) * 4 + c] == x[((f / 2) * 6 + p) * 8 + (f % 2) * 4 + c]);
}

TEST("pixels become bytes by truncation") {
  const auto b = makeCpuBackend({});
  const std::vector<float> values = {-3, -1, 0, 0.9999f, 1, 7, std::nanf(""), 0.5f, -0.5f};
  Volume in(*b, DType::F32, {1, 1, 3, 3}), out(*b, DType::U8, {1, 1, 3, 3});
  b->upload(in.tensor, values.data());
  b->toRgb8(out.tensor, in.tensor, false);
  const std::vector<uint8_t> want = {0, 0, 127, 254, 255, 255, 0, 191, 63};
  CHECK(std::equal(want.begin(), want.end(), out.tensor.as<uint8_t>()));
  b->toRgb8(out.tensor, in.tensor, true);
  const std::vector<uint8_t> unit = {0, 0, 0, 254, 255, 255, 0, 127, 0};
  CHECK(std::equal(unit.begin(), unit.end(), out.tensor.as<uint8_t>()));
}

// ---- decoders -----------------------------------------------------------------------------------------------------------

constexpr int64_t kHeight = 3, kWidth = 5, kLatents = 4;

VaeConfig smallVae() {
  VaeConfig c;
  c.dim = 4, c.zDim = 6, c.dimMult = {1, 3, 2, 2}, c.numResBlocks = 1, c.temporalDownsample = {true, false, true};
  c.mean = {0.1f, -0.2f, 0.3f, 0, 0, 0}, c.std = {1, 2, 0.5f, 1, 1, 1};
  return c;
}

TinyVaeConfig smallTiny() {
  TinyVaeConfig c;
  c.channels = {20, 8, 12, 6}, c.zDim = 6;
  return c;
}

using MakeDecoder = std::function<std::unique_ptr<DecoderModel>(Backend&)>;

std::unique_ptr<DecoderModel> makeWan(Backend& b) {
  SyntheticWeights w(11);
  syntheticWanDecoder(w, smallVae());
  return loadWanVae(b, smallVae(), w.file());
}

std::unique_ptr<DecoderModel> makeTinyOf(Backend& b, int64_t patch, bool transposed = false) {
  TinyVaeConfig c = smallTiny();
  c.patch = patch, c.transposed = transposed;
  SyntheticWeights w(12);
  syntheticTinyDecoder(w, c);
  return loadTinyVae(b, c, w.file());
}

std::unique_ptr<DecoderModel> makeTiny(Backend& b) { return makeTinyOf(b, 1); }
std::unique_ptr<DecoderModel> makePatched(Backend& b) { return makeTinyOf(b, 2); }
std::unique_ptr<DecoderModel> makeTransposed(Backend& b) { return makeTinyOf(b, 2, true); }

// Frames of latents [begin, begin + count) of a fixed random video.
std::vector<float> decode(Backend& b, FrameDecoder& stream, int64_t begin, int64_t count) {
  Volume latents(b, DType::F32, {kLatents, 6, kHeight, kWidth}, 13);
  const int64_t frames = stream.framesFor(count);
  Volume rgb(b, DType::F32, {frames, 8 * kHeight, 8 * kWidth, 3});
  CHECK(stream.decode(latents.tensor.rows(begin, count), rgb.tensor) == frames);
  return rgb.values();
}

void append(std::vector<float>& to, const std::vector<float>& from) { to.insert(to.end(), from.begin(), from.end()); }

void checkStreaming(const MakeDecoder& make, Precision precision) {
  for (const auto& b : backends(precision)) {
    const auto model = make(*b);
    const auto one = model->createStream(kHeight, kWidth, kLatents), other = model->createStream(kHeight, kWidth, 1);
    CHECK(one->framesFor(1) == 1 && one->framesFor(3) == 9);
    const std::vector<float> whole = decode(*b, *one, 0, kLatents);
    CHECK(one->framesFor(1) == 4 && one->framesFor(3) == 12);
    CHECK(static_cast<int64_t>(whole.size()) == 13 * 64 * kHeight * kWidth * 3);
    CHECK(std::all_of(whole.begin(), whole.end(), [](float v) { return std::isfinite(v); }));

    // Two streams of one model, interleaved: neither sees the other, and cutting changes no bit.
    const size_t bytes = one->memoryBytes();
    one->reset();
    std::vector<float> a, c;
    append(a, decode(*b, *one, 0, 1)), append(c, decode(*b, *other, 0, 2));
    append(a, decode(*b, *one, 1, 3)), append(c, decode(*b, *other, 2, 1)), append(c, decode(*b, *other, 3, 1));
    CHECK(a == whole);
    CHECK(c == whole);
    CHECK(one->memoryBytes() == bytes && bytes > 0);

    // History matters: a latent in the middle of a video is not decoded like a first one.
    one->reset();
    const std::vector<float> fresh = decode(*b, *one, 1, 2);
    CHECK(!std::equal(fresh.end() - 12, fresh.end(), whole.begin() + 9 * 64 * kHeight * kWidth * 3 - 12));
  }
}

TEST("the full decoder streams without a seam in fp32") { checkStreaming(makeWan, Precision::FP32); }
TEST("the full decoder streams without a seam in bf16") { checkStreaming(makeWan, Precision::BF16); }
TEST("the tiny decoder streams without a seam in fp32") { checkStreaming(makeTiny, Precision::FP32); }
TEST("the tiny decoder streams without a seam in bf16") { checkStreaming(makeTiny, Precision::BF16); }
TEST("the tiny decoder of 2 x 2 pixels streams without a seam in fp32") { checkStreaming(makePatched, Precision::FP32); }
TEST("the tiny decoder of 2 x 2 pixels streams without a seam in bf16") { checkStreaming(makePatched, Precision::BF16); }
TEST("the transposed tiny decoder streams without a seam in fp32") { checkStreaming(makeTransposed, Precision::FP32); }
TEST("the transposed tiny decoder streams without a seam in bf16") { checkStreaming(makeTransposed, Precision::BF16); }

// Kernels of 4 taps that say what nearest upsampling, growth and 3 taps do: taps {2}, {1, 2}, {0, 1} and {0} of these.
std::vector<float> asTransposed(const std::vector<float>& grow, const std::vector<float>& conv, int64_t in, int64_t out, int64_t k) {
  constexpr int kFirst[] = {2, 1, 0, 0}, kLast[] = {3, 3, 2, 1};
  std::vector<float> w(static_cast<size_t>(in * k * out * 16));
  for (int64_t i = 0; i < in; ++i)
    for (int64_t j = 0; j < k; ++j)
      for (int64_t o = 0; o < out; ++o)
        for (int y = 0; y < 4; ++y)
          for (int x = 0; x < 4; ++x) {
            double sum = 0;
            for (int64_t m = 0; m < in; ++m)
              for (int v = kFirst[y]; v < kLast[y]; ++v)
                for (int u = kFirst[x]; u < kLast[x]; ++u) sum += double{conv[((o * in + m) * 3 + v) * 3 + u]} * grow[(j * in + m) * in + i];
            w[(((i * k + j) * out + o) * 4 + y) * 4 + x] = static_cast<float>(sum);
          }
  return w;
}

TEST("a transposed tiny decoder whose kernels say the same decodes the same") {
  TinyVaeConfig plain = smallTiny(), transposed = plain;
  transposed.transposed = true;
  SyntheticWeights from(12), to(14);
  syntheticTinyDecoder(from, plain), syntheticTinyDecoder(to, transposed);
  for (const std::string& name : to.names()) {
    const bool grows = name == "decoder.8.weight" || name == "decoder.14.weight" || name == "decoder.20.weight";
    if (!grows) { std::ranges::copy(from.values(name), to.values(name).begin()); continue; }
    const int64_t stage = (std::stoll(name.substr(8)) - 8) / 6, in = plain.channels[stage], out = plain.channels[stage + 1];
    const std::string grow = "decoder." + std::to_string(7 + 6 * stage) + ".conv.weight";
    std::ranges::copy(asTransposed(from.values(grow), from.values(name), in, out, plain.timeUpscale[stage]), to.values(name).begin());
  }
  const auto b = makeCpuBackend({});
  const auto decoded = [&](const TinyVaeConfig& c, SyntheticWeights& w) {
    const auto model = loadTinyVae(*b, c, w.file());
    return decode(*b, *model->createStream(kHeight, kWidth, kLatents), 0, kLatents);
  };
  const std::vector<float> expected = decoded(plain, from), got = decoded(transposed, to);
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::fabs(double{got[i]} - expected[i]));
  CHECK(worst < 1e-4);
}

TEST("the tiny decoder of 2 x 2 pixels puts each channel where the reference does") {
  TinyVaeConfig c = smallTiny();
  c.patch = 2;
  SyntheticWeights w(12);
  syntheticTinyDecoder(w, c);
  for (float& v : w.values("decoder.22.weight")) v = 0;
  std::vector<float>& bias = w.values("decoder.22.bias");
  for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i);
  const auto b = makeCpuBackend({});
  const auto model = loadTinyVae(*b, c, w.file());
  const auto stream = model->createStream(kHeight, kWidth, 1);
  const std::vector<float> pixels = decode(*b, *stream, 0, 2);  // 5 frames
  CHECK(pixels.size() == 5 * 64 * kHeight * kWidth * 3);
  for (size_t i = 0; i < pixels.size(); ++i) {
    const size_t channel = i % 3, x = i / 3 % (8 * kWidth), y = i / 3 / (8 * kWidth) % (8 * kHeight);
    CHECK(pixels[i] == static_cast<float>(channel * 4 + y % 2 * 2 + x % 2));
  }
}

// After any number of latents: fewer than a layer looks back, and more.
void checkWarming(const MakeDecoder& make, Precision precision) {
  BackendOptions o;
  o.precision = precision;
  const auto b = makeCpuBackend(o);
  const auto model = make(*b);
  const auto plain = model->createStream(kHeight, kWidth, 1), warmed = model->createStream(kHeight, kWidth, 1);
  Volume latents(*b, DType::F32, {24, 6, kHeight, kWidth}, 13), scratch(*b, DType::U8, {4, 8 * kHeight, 8 * kWidth, 3});
  const auto rest = [&](FrameDecoder& stream, int64_t begin) {
    Volume rgb(*b, DType::F32, {stream.framesFor(2), 8 * kHeight, 8 * kWidth, 3});
    stream.decode(latents.tensor.rows(begin, 2), rgb.tensor);
    return rgb.values();
  };
  for (int64_t n : {1, 2, 3, 5, 9, 13, 22}) {
    plain->reset(), warmed->reset();
    for (int64_t i = 0; i < n; ++i) plain->decode(latents.tensor.rows(i, 1), scratch.tensor.rows(0, plain->framesFor(1)));
    warmed->warm(latents.tensor.rows(0, n), scratch.tensor);
    CHECK(rest(*warmed, n) == rest(*plain, n));
  }
}

TEST("the full decoder in 8 bits streams without a seam, and is near what it is in 16") {
  const MakeDecoder make = [](Backend& b) {
    VaeConfig c = smallVae();
    c.eightBit = true;
    SyntheticWeights w(11);
    syntheticWanDecoder(w, c);
    return loadWanVae(b, c, w.file());
  };
  checkStreaming(make, Precision::BF16);
  checkWarming(make, Precision::BF16);
  BackendOptions o;
  o.precision = Precision::BF16;
  const auto b = makeCpuBackend(o);
  const std::vector<float> bytes = decode(*b, *make(*b)->createStream(kHeight, kWidth, kLatents), 0, kLatents);
  const std::vector<float> sixteen = decode(*b, *makeWan(*b)->createStream(kHeight, kWidth, kLatents), 0, kLatents);
  CHECK(worstDifference(bytes, {sixteen.begin(), sixteen.end()}) < 0.5);
}

TEST("a decoder that is warmed goes on as if it had made the pictures") {
  for (Precision precision : {Precision::FP32, Precision::BF16})
    for (const MakeDecoder& make : {MakeDecoder(makeWan), MakeDecoder(makeTiny), MakeDecoder(makePatched)}) checkWarming(make, precision);
}

TEST("every instruction set decodes alike") {
  for (const MakeDecoder& make : {MakeDecoder(makeWan), MakeDecoder(makeTiny)}) {
    std::vector<double> reference;
    for (const auto& b : backends(Precision::FP32)) {
      const std::vector<float> got = decode(*b, *make(*b)->createStream(kHeight, kWidth, kLatents), 0, kLatents);
      if (reference.empty()) reference.assign(got.begin(), got.end());
      CHECK(worstDifference(got, reference) < 2e-5);
    }
  }
}

TEST("bf16 decodes close to fp32") {
  for (const MakeDecoder& make : {MakeDecoder(makeWan), MakeDecoder(makeTiny)}) {
    std::vector<float> results[2];
    for (Precision p : {Precision::FP32, Precision::BF16}) {
      BackendOptions o;
      o.precision = p;
      const auto b = makeCpuBackend(o);
      results[p == Precision::BF16] = decode(*b, *make(*b)->createStream(kHeight, kWidth, kLatents), 0, kLatents);
    }
    CHECK(worstDifference(results[1], {results[0].begin(), results[0].end()}) < 0.1);
  }
}

TEST("bytes are the truncated values") {
  const auto b = makeCpuBackend({});
  Volume latents(*b, DType::F32, {1, 6, kHeight, kWidth}, 13);
  for (const MakeDecoder& make : {MakeDecoder(makeWan), MakeDecoder(makeTiny)}) {
    const bool unit = make(*b)->weightBytes() == makeTiny(*b)->weightBytes();
    const auto stream = make(*b)->createStream(kHeight, kWidth, 1);
    Volume values(*b, DType::F32, {1, 8 * kHeight, 8 * kWidth, 3}), bytes(*b, DType::U8, values.tensor.shape);
    stream->decode(latents.tensor, values.tensor);
    stream->reset();
    stream->decode(latents.tensor, bytes.tensor);
    Volume want(*b, DType::U8, values.tensor.shape);
    b->toRgb8(want.tensor, values.tensor, unit);
    CHECK(std::memcmp(want.storage->data, bytes.storage->data, values.tensor.elements()) == 0);
  }
}

// The message must name the tensor, so that the owner of the package can repair it.
void checkRefused(const std::function<void()>& load, const std::string& name) {
  try {
    load();
    test::fail(__FILE__, __LINE__, "a bad package was accepted");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::InvalidPackage);
    CHECK(std::string(e.what()).find(name) != std::string::npos);
  }
}

TEST("a package with missing, surplus or misshapen weights is refused by name") {
  const auto b = makeCpuBackend({});
  VaeConfig wider = smallVae();
  wider.numResBlocks = 2;
  SyntheticWeights w(14), surplus(15), tiny(16);
  syntheticWanDecoder(w, smallVae());
  checkRefused([&] { loadWanVae(*b, wider, w.file()); }, "decoder.upsamples.");
  checkRefused([&] { loadWanVaeEncoder(*b, smallVae(), w.file()); }, "encoder.conv1.weight");
  syntheticWanDecoder(surplus, smallVae());
  surplus.layer("decoder.extra", {2, 2});
  checkRefused([&] { loadWanVae(*b, smallVae(), surplus.file()); }, "decoder.extra");
  syntheticTinyDecoder(tiny, smallTiny());
  TinyVaeConfig other = smallTiny();
  other.channels[1] = 9;
  checkRefused([&] { loadTinyVae(*b, other, tiny.file()); }, "decoder.8.weight");
  other.channels.pop_back();
  checkRefused([&] { loadTinyVae(*b, other, tiny.file()); }, "tinyVae.channels");
}

}  // namespace
}  // namespace longlive

// What tests of the CUDA backend share: one call of an operation on random inputs, on whichever backend, and how far two may be apart.
#pragma once

#include <cuda_runtime.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "../harness.h"
#include "ops.h"
#include "ops/cuda/cuda_backend.h"
#include "ops/cuda/weights.h"

namespace longlive {

using Values = std::vector<float>;

inline std::mt19937 generator(7);

inline Values random(int64_t n, float scale = 1.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  Values v(static_cast<size_t>(n));
  for (float& x : v) x = normal(generator);
  return v;
}

struct Device {
  explicit Device(std::unique_ptr<Backend> b) : backend(std::move(b)) {}
  std::unique_ptr<Backend> backend;
  std::vector<std::unique_ptr<Storage>> storage;

  Tensor empty(DType type, Shape shape) {
    Tensor t{nullptr, type, shape};
    storage.push_back(backend->allocate(t.bytes()));
    t.data = storage.back()->data;
    return t;
  }
  Tensor put(DType type, Shape shape, const Values& v) {
    const Tensor t = empty(type, shape);
    backend->upload(t, v.data());
    return t;
  }
  Tensor activation(Shape shape, const Values& v) { return put(backend->activationType(), shape, v); }
  Tensor activation(Shape shape) { return empty(backend->activationType(), shape); }
  Values get(const Tensor& t) {
    Values v(static_cast<size_t>(t.elements()));
    backend->download(v.data(), t);
    return v;
  }
};

inline double difference(const Values& got, const Values& want) {
  double worst = 0, scale = 1e-30;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = std::fabs(static_cast<double>(got[i]) - want[i]);
    if (std::isnan(d)) return 1e30;
    worst = std::max(worst, d);
    scale = std::max(scale, std::fabs(static_cast<double>(want[i])));
  }
  return got.size() == want.size() ? worst / scale : 1e30;
}

// Runs the same calls on the CPU in F32 and on the emulated GPU in each precision.
inline void compare(const std::string& what, const std::function<Values(Device&)>& run, std::vector<Precision> precisions = {Precision::FP32, Precision::BF16},
             double bf16Limit = 2e-2) {
  const auto seeded = [&](std::unique_ptr<Backend> b) {
    generator.seed(11);
    Device d(std::move(b));
    return run(d);
  };
  BackendOptions options;
  options.threads = 1;
  const Values want = seeded(makeCpuBackend(options));
  for (Precision p : precisions) {
    options.precision = p;
    const double d = difference(seeded(makeCudaBackend(options)), want);
    // 8 bits: rows and columns rounded to 1/254 of their largest values, or (fp8) each number by 2.6 % on average.
    const double limit = p == Precision::FP32 ? 5e-6 : p == Precision::BF16 ? bf16Limit : p == Precision::INT8 ? 4e-2 : 7e-2;
    if (!(d <= limit)) std::fprintf(stderr, "%s, precision %d: relative difference %g\n", what.c_str(), static_cast<int>(p), d);
    CHECK(d <= limit);
  }
}

// While it lives the emulated chip is another.
struct Chip {
  Chip(int major, int minor) { emulator::capability = {major, minor}; }
  ~Chip() { emulator::capability = before; }
  const emulator::Capability before = emulator::capability;
};

// While it lives, products go to a library that stands in for cuBLASLt (fake_cublaslt.cpp), and lanes have the workspace that it needs.
struct FakeLibrary {
  std::string path;
  FakeLibrary() {
    char self[4096];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    const std::string program(self, n > 0 ? static_cast<size_t>(n) : 0);
    path = program.substr(0, program.rfind('/') + 1) + "libfake_cublaslt.so";
    setenv("LONGLIVE_CUBLASLT", path.c_str(), 1);
  }
  ~FakeLibrary() { setenv("LONGLIVE_CUBLASLT", "off", 1); }
};

inline Values linear(Device& d, int64_t rows, int64_t in, int64_t out, Activation activation, bool multiply, bool residual, int64_t gates) {
  const Values weight = random(out * in, 1.0f / std::sqrt(static_cast<float>(in))), bias = random(out, 0.3f);
  const auto w = d.backend->prepareLinear(weight.data(), bias.data(), out, in);
  const Tensor x = d.activation({rows, in}, random(rows * in)), y = d.activation({rows, out}, random(rows * out));
  Epilogue e;
  e.activation = activation;
  if (multiply) e.multiply = d.activation({rows, out}, random(rows * out));
  if (residual) e.residual = y;  // in place
  if (gates) e.gate = d.activation({gates, out}, random(gates * out));
  d.backend->linear(y, x, *w, e);
  return d.get(y);
}

struct ConvCase {
  int64_t frames, height, width, in, out;
  int kt, kh, kw, strideT = 1, stride = 1;
  Backend::ConvArgs::Pad pad = Backend::ConvArgs::Pad::Same;
  bool causal = true, upsample = false;
  int64_t history = 0;
  Activation activation = Activation::None;
  bool residual = false, after = false, floatOut = false, sensitive = false;
};

inline Values conv(Device& d, const ConvCase& c) {
  Backend& b = *d.backend;
  const Values weight = random(c.out * c.in * c.kt * c.kh * c.kw, 1.0f / std::sqrt(static_cast<float>(c.in * c.kt * c.kh * c.kw)));
  const Values bias = random(c.out, 0.3f);
  const auto w = b.prepareConv(weight.data(), bias.data(), c.out, c.in, c.kt, c.kh, c.kw, c.sensitive, c.upsample);
  using Pad = Backend::ConvArgs::Pad;
  const auto size = [&](int64_t n, int k) {
    return (n + (c.pad == Pad::Same ? k - 1 : 1) - k) / c.stride + 1;
  };
  const int64_t scale = c.upsample ? 2 : 1, seen = c.causal ? c.frames : c.history + c.frames - (c.kt - 1);
  const Shape shape{(seen + c.strideT - 1) / c.strideT, scale * size(c.height, c.kh), scale * size(c.width, c.kw), c.out};
  Backend::ConvArgs a;
  a.in = d.put(w->input, {c.frames, c.height, c.width, c.in}, random(c.frames * c.height * c.width * c.in));
  const Values past = random(2 * c.height * c.width * c.in), rest = random(shape.elements());
  if (c.history) a.history = d.put(w->input, {c.history, c.height, c.width, c.in}, past);
  a.weights = w.get();
  a.strideT = c.strideT, a.strideHW = c.stride, a.pad = c.pad, a.causal = c.causal, a.upsample2x = c.upsample;
  a.activation = c.activation, a.activationAfterResidual = c.after;
  a.out = d.put(c.floatOut ? DType::F32 : b.activationType(), shape, rest);
  if (c.residual) a.residual = a.out;
  b.conv(a);
  return d.get(a.out);
}

inline Values attention(Device& d, int64_t queries, int64_t rows, int64_t heads, int64_t headDim, std::vector<KeyRange> visible, bool bias, float last) {
  const int64_t width = heads * headDim;
  int64_t keys = 0;
  for (const KeyRange& r : visible) keys += r.count;
  AttentionArgs a;
  a.q = d.activation({queries, width}, random(queries * width));
  a.k = d.activation({rows, width}, random(rows * width));
  a.v = d.activation({rows, width}, random(rows * width));
  a.out = d.activation({queries, width});
  a.visible = visible, a.heads = heads, a.scale = 1.0f / std::sqrt(static_cast<float>(headDim)), a.lastKeyLogBias = last;
  const int64_t distances = queries + keys - 1;
  const Values table = random(heads * distances);
  if (bias) a.bias = d.put(DType::F32, {heads, distances}, table);
  d.backend->attention(a);
  return d.get(a.out);
}

// The error of 8-bit attention against bf16 on the same inputs, held against what its roundings must give. To first order, with
// p_j the weights, the error of output c of a query has the variance
//   sum_j p_j^2 (v_jc - out_c)^2 logit_j^2  +  sum_j p_j^2 v_jc^2 (weight^2 + value^2)  +  bf16's own
// logit_j^2 = scale^2 (|k_j - mean|^2 Q's step^2 + |q|^2 K's step^2) / 12: both rounded to steps of 1/127 of the largest value, of a row
// of Q and of a tile of K. weight, value: relative roundings; to a mantissa of b bits 2^-(b + 1) / sqrt(3) of the power of two below,
// which is 1 / sqrt(2) of a number on average.
inline double relativeRounding(int bits) { return std::ldexp(1.0, -(bits + 1)) / std::sqrt(3.0) / std::sqrt(2.0); }

struct EightBitError { double rms, worst; };  // in units of that standard deviation

// Of the emulated chip's kernel, with values in fp8 or bf16 and so many keys to a tile. page > 0: keys are kept, and those of the second page
// replaced once.
inline EightBitError eightBitError(bool fp8, int64_t tileKeys, int64_t queries, int64_t rows, int64_t heads, int64_t headDim, const std::vector<KeyRange>& visible,
                            float common, int64_t page = 0) {
  generator.seed(23);
  const int64_t width = heads * headDim;
  const auto rounded = [](Values v) {
    for (float& x : v) {
      const uint32_t bits = static_cast<uint32_t>(cuda::roundToBf16(x)) << 16;
      std::memcpy(&x, &bits, 4);
    }
    return v;
  };
  Values k = random(rows * width);
  const Values q = rounded(random(queries * width, 1.5f)), v = rounded(random(rows * width)), offset = random(width, common);
  for (int64_t i = 0; i < rows * width; ++i) k[static_cast<size_t>(i)] += offset[static_cast<size_t>(i % width)];
  k = rounded(k);
  Values before = k;
  if (page > 0) std::copy_n(k.begin(), page * width, before.begin() + page * width);
  const float scale = 1.0f / std::sqrt(static_cast<float>(headDim));
  const auto run = [&](AttentionArithmetic arithmetic) {
    BackendOptions options;
    options.precision = Precision::BF16, options.attention = arithmetic;
    Device d(makeCudaBackend(options));
    cuda::SelfAttention a;
    a.q = d.activation({queries, width}, q), a.k = d.activation({rows, width}, k), a.v = d.activation({rows, width}, v);
    a.out = d.activation({queries, width}), a.visible = visible, a.heads = heads, a.scale = scale, a.eightBit = true;
    if (arithmetic == AttentionArithmetic::Int8 && page > 0) {
      auto& gpu = static_cast<cuda::CudaBackend&>(*d.backend);
      CHECK(gpu.takesEightBitAttention() && cuda::canKeep(rows, page, heads, headDim));
      const int64_t bytes = static_cast<int64_t>(cuda::layoutKept(rows, page, heads, headDim, gpu.eightBitFormat(headDim)).bytes);
      a.kept = {d.empty(DType::I8, {bytes}), page};
      const int64_t seen = cuda::firstRows(visible);
      gpu.keep(a.kept, d.activation({rows, width}, before), a.v, heads, cuda::kAllPages, seen, true);
      gpu.keep(a.kept, a.k, a.v, heads, 1u << 1, seen, false);
    }
    static_cast<cuda::CudaBackend&>(*d.backend).attend(a);
    return d.get(a.out);
  };
  const Values got = run(AttentionArithmetic::Int8), want = run(AttentionArithmetic::Full);

  std::vector<int64_t> keys, tile;  // rows of the visible keys, and their tiles: none across two ranges
  int64_t tiles = 0;
  for (const KeyRange& r : visible) {
    for (int64_t i = 0; i < r.count; ++i) keys.push_back(r.begin + i), tile.push_back(tiles + i / tileKeys);
    tiles += (r.count + tileKeys - 1) / tileKeys;
  }
  const double weight = relativeRounding(fp8 ? 3 : 7), value = fp8 ? relativeRounding(3) : 0, last = relativeRounding(7);
  double squares = 0, worst = 0;
  for (int64_t h = 0; h < heads; ++h) {
    const auto at = [&](const Values& m, int64_t row, int64_t c) { return static_cast<double>(m[static_cast<size_t>(row * width + h * headDim + c)]); };
    std::vector<double> mean(static_cast<size_t>(headDim)), norm(keys.size()), step(static_cast<size_t>(tiles));
    for (int64_t c = 0; c < headDim; ++c)
      for (int64_t key : keys) mean[static_cast<size_t>(c)] += at(k, key, c) / static_cast<double>(keys.size());
    for (size_t j = 0; j < keys.size(); ++j)
      for (int64_t c = 0; c < headDim; ++c) {
        const double x = at(k, keys[j], c) - mean[static_cast<size_t>(c)];
        norm[j] += x * x;
        step[static_cast<size_t>(tile[j])] = std::max(step[static_cast<size_t>(tile[j])], std::fabs(x) / 127);
      }
    for (int64_t i = 0; i < queries; ++i) {
      std::vector<double> p(keys.size());
      double total = 0, length = 0, largest = 0;
      for (int64_t c = 0; c < headDim; ++c) length += at(q, i, c) * at(q, i, c), largest = std::max(largest, std::fabs(at(q, i, c)));
      for (size_t j = 0; j < keys.size(); ++j) {
        double dot = 0;
        for (int64_t c = 0; c < headDim; ++c) dot += at(q, i, c) * (at(k, keys[j], c) - mean[static_cast<size_t>(c)]);
        total += p[j] = std::exp(dot * static_cast<double>(scale));
      }
      for (int64_t c = 0; c < headDim; ++c) {
        const double out = at(want, i, c), rounding = last * out;
        double variance = 2 * rounding * rounding;  // of both results
        for (size_t j = 0; j < keys.size(); ++j) {
          const double pj = p[j] / total, vj = at(v, keys[j], c), s = step[static_cast<size_t>(tile[j])];
          const double logit = static_cast<double>(scale) * static_cast<double>(scale) * (norm[j] * largest * largest / 127 / 127 + length * s * s) / 12;
          variance += pj * pj * ((vj - out) * (vj - out) * logit + vj * vj * (weight * weight + value * value));
        }
        const double error = std::fabs(at(got, i, c) - out) / std::sqrt(variance);
        squares += error * error, worst = std::max(worst, std::isnan(error) ? 1e30 : error);
      }
    }
  }
  return {std::sqrt(squares / static_cast<double>(queries * width)), worst};
}

}  // namespace longlive

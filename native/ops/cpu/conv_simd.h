// The convolution kernels of every instruction set but AVX-512, written once (simd.h): a tile of a few pixels by 16 channels stays in registers;
// each step multiplies a broadcast word of inputs with the words of 16 weights (simd_dot.h).
#pragma once

#include "conv_kernels.h"
#include "simd.h"
#include "simd_dot.h"
#include "simd_values.h"

namespace longlive::cpu::SIMD {

constexpr int kVectors = kConvLanes / W;

// -- multiply-accumulate --------------------------------------------------------------------------------------------------

// What the sums of a vector of lanes stand for.
static inline F valueOf(const ConvTile&, int, F sum) { return sum; }
static inline F valueOf(const ConvTile& t, int lane, I sum) { return toFloat(sum + load(t.offset + lane)) * load(t.scale + lane); }

template <class Dot, class Element, int Pixels>
static void accumulate(const ConvTile& t, float* acc) {
  constexpr int step = 4 / sizeof(Element);
  typename Dot::Acc sum[Pixels][kVectors];
  Missing<Dot, kVectors> missing;
  // Unrolled by name: what is left of a loop over registers has its place in memory, and is stored at every step (GCC 12).
#pragma GCC unroll 8
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[p][v] = typename Dot::Acc{};
  for (int r = 0; r < t.rowCount; ++r) {
    const Element* in = static_cast<const Element*>(t.rows[r]);
    const uint32_t* w = static_cast<const uint32_t*>(t.weights[r]);
    for (int k = 0; k < t.run; k += step, w += kConvLanes) {
      typename Dot::Operand weight[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) weight[v] = Dot::loadVector(w + v * W);
      missing.add(weight);
#pragma GCC unroll 8
      for (int p = 0; p < Pixels; ++p) {
        const typename Dot::Operand x = Dot::broadcast(in + p * t.pixelStride + k);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[p][v] = Dot::dot(sum[p][v], x, weight[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(acc + p * kConvLanes + v * W, valueOf(t, v * W, missing.with(sum[p][v], v)));
}

// -- epilogue -------------------------------------------------------------------------------------------------------------

// Calls fn with a pointer of the tensor's element type.
template <class Fn>
static inline void typed(void* p, DType t, Fn&& fn) {
  if (t == DType::F32) fn(static_cast<float*>(p));
  else fn(static_cast<bf16*>(p));
}
template <class Fn>
static inline void typed(const void* p, DType t, Fn&& fn) {
  if (t == DType::F32) fn(static_cast<const float*>(p));
  else fn(static_cast<const bf16*>(p));
}

// Calls fn.template operator()<A>().
template <class Fn>
static inline void withActivation(Activation a, Fn&& fn) {
  switch (a) {
    case Activation::Relu: return fn.template operator()<Activation::Relu>();
    case Activation::Silu: return fn.template operator()<Activation::Silu>();
    case Activation::GeluTanh: return fn.template operator()<Activation::GeluTanh>();
    case Activation::None: case Activation::TanhClamp: return fn.template operator()<Activation::None>();
  }
}

template <Activation A, class Out, class Residual>
static void finishPixels(const ConvFinish& f, const float* acc, Out* out, const Residual* residual) {
  for (int p = 0; p < f.pixels; ++p, acc += f.lanes, out += f.outStride) {
    for (int c = 0; c < f.channels; c += W) {
      const int64_t n = f.channels - c < W ? f.channels - c : W;
      F v = load(acc + c) + load(f.bias + c);
      if (!f.activationAfterResidual) v = activated<A>(v);
      if (residual) v = v + read(residual + p * f.residualStride + c, n);
      if (f.activationAfterResidual) v = activated<A>(v);
      write(out + c, v, n);
    }
  }
}

static void finish(const ConvFinish& f, const float* acc) {
  typed(f.out, f.outType, [&](auto* out) {
    typed(f.residual, f.residualType, [&](const auto* residual) {
      withActivation(f.activation, [&]<Activation A>() { finishPixels<A>(f, acc, out, residual); });
    });
  });
}

// -- norm -----------------------------------------------------------------------------------------------------------------

// What a vector of results is stored as.
struct AsNumbers {
  template <class Out> void put(Out* p, F v, int64_t n) const { write(p, v, n); }
};
struct AsBytes {
  F perStep, zero;
  explicit AsBytes(ByteCode code) : perStep(set1(1.0f / code.step)), zero(set1(code.zero)) {}
  void put(uint8_t* p, F v, int64_t n) const {
    // Adding 1.5 * 2^23 rounds to nearest even and leaves the whole number in the low byte.
    const U q = (U)(min(set1(255.0f), max(set1(0.0f), fma(v, perStep, zero))) + set1(12582912.0f));
    writeBytes(p, q, n);
  }
};

template <Activation A, class Out, class In, class As>
static void normPixel(Out* out, const In* in, const float* gamma, int64_t channels, float root, As as) {
  F squares{};
  for (int64_t c = 0; c < channels; c += W) {
    const F x = read(in + c, channels - c);
    squares = fma(x, x, squares);
  }
  const float length = std::sqrt(sum(squares));
  const F scale = set1(root / (length > 1e-12f ? length : 1e-12f));
  for (int64_t c = 0; c < channels; c += W) {
    const int64_t n = channels - c;
    as.put(out + c, activated<A>(read(in + c, n) * scale * read(gamma + c, n)), n);
  }
}

template <class Out, class As>
static void normPixels(const NormRows& n, Out* out, As as) {
  const float root = std::sqrt(static_cast<float>(n.channels));
  typed(n.in, n.inType, [&](const auto* in) {
    withActivation(n.activation, [&]<Activation A>() {
      for (int64_t p = 0; p < n.pixels; ++p)
        normPixel<A>(out + p * n.channels, in + p * n.channels, n.gamma, n.channels, root, as);
    });
  });
}

static void norm(const NormRows& n) {
  if (n.outType == DType::U8) return normPixels(n, static_cast<uint8_t*>(n.out), AsBytes(n.code));
  typed(n.out, n.outType, [&](auto* out) { normPixels(n, out, AsNumbers{}); });
}

// `Pixels` of a tile: as many as leave registers for the weights and a broadcast.
template <int Pixels>
static ConvKernels floatKernels(const char* name) {
  return {name, DType::F32, 1, 1, {Pixels, 0}, {accumulate<DotF32, float, Pixels>, nullptr}, finish, norm};
}
template <class Dot, int Pixels>
static ConvKernels byteKernels(const char* name) {
  return {name, DType::U8, 4, 1, {Pixels, 0}, {accumulate<Dot, uint8_t, Pixels>, nullptr}, finish, norm, Dot::kLargestWeight};
}

}  // namespace longlive::cpu::SIMD

// Scalar forms of the epilogue and the norm: the portable kernels, and what other instruction sets use for the cases
// they do not speed up. Internal linkage on purpose: every file that includes this is compiled with its own flags.
#pragma once

#include <algorithm>
#include <cmath>

#include "conv_kernels.h"

namespace longlive::cpu {
namespace {

[[maybe_unused]] inline float toFloat(Bf16 v) {
  const uint32_t bits = static_cast<uint32_t>(v.bits) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

[[maybe_unused]] inline Bf16 toBf16(float f) {  // round to nearest even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

[[maybe_unused]] inline float loadFloat(const void* p, DType t, int64_t i) {
  return t == DType::F32 ? static_cast<const float*>(p)[i] : toFloat(static_cast<const Bf16*>(p)[i]);
}

[[maybe_unused]] inline void storeFloat(void* p, DType t, int64_t i, float v) {
  if (t == DType::F32) static_cast<float*>(p)[i] = v;
  else static_cast<Bf16*>(p)[i] = toBf16(v);
}

[[maybe_unused]] inline uint8_t byteOf(float v, ByteCode code) {
  return static_cast<uint8_t>(std::clamp(std::nearbyint(v / code.step) + static_cast<float>(code.zero), 0.0f, 255.0f));
}

[[maybe_unused]] inline float activated(float x, Activation a) {
  switch (a) {
    case Activation::Relu: return std::max(x, 0.0f);
    case Activation::Silu: return x / (1.0f + std::exp(-x));
    case Activation::GeluTanh:
      return 0.5f * x * (1.0f + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    case Activation::None: case Activation::TanhClamp: break;
  }
  return x;
}

[[maybe_unused]] void finishScalar(const ConvFinish& f, const float* acc) {
  for (int p = 0; p < f.pixels; ++p) {
    for (int c = 0; c < f.channels; ++c) {
      const float sum = acc[p * f.lanes + c] + f.bias[c];
      const float r = f.residual ? loadFloat(f.residual, f.residualType, p * f.residualStride + c) : 0.0f;
      const float v = f.activationAfterResidual ? activated(sum + r, f.activation) : activated(sum, f.activation) + r;
      storeFloat(f.out, f.outType, p * f.outStride + c, v);
    }
  }
}

[[maybe_unused]] void normScalar(const NormRows& n) {
  const float root = std::sqrt(static_cast<float>(n.channels));
  for (int64_t p = 0; p < n.pixels; ++p) {
    const int64_t first = p * n.channels;
    float squares = 0;
    for (int64_t c = 0; c < n.channels; ++c) {
      const float x = loadFloat(n.in, n.inType, first + c);
      squares += x * x;
    }
    const float scale = root / std::max(std::sqrt(squares), 1e-12f);
    for (int64_t c = 0; c < n.channels; ++c) {
      const float y = loadFloat(n.in, n.inType, first + c) * scale * n.gamma[c];
      const float v = activated(y, n.activation);
      if (n.outType == DType::U8) static_cast<uint8_t*>(n.out)[first + c] = byteOf(v, n.code);
      else storeFloat(n.out, n.outType, first + c, v);
    }
  }
}

}  // namespace
}  // namespace longlive::cpu

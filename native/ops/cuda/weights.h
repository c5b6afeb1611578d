// Host-side packing of weights: from PyTorch's layouts to the rows of gemm.h. Plain C++: tested without a device.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "e4m3.h"
#include "gemm.h"
#include "../upsampled_taps.h"

namespace longlive::cuda {

// Rows of a packed matrix on the host, [phases * columns][stride] of the operand's type.
struct HostMatrix {
  Operand operand = Operand::F32;
  int64_t stride = 0;
  std::vector<unsigned char> bytes;
  std::vector<float> columnScale;  // Int8, Fp8
};

inline uint16_t roundToBf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// rows x depth of F32 to the operand's type, each row padded with zeros. Int8 and Fp8: symmetric, one scale per row.
inline HostMatrix packRows(const float* weight, int64_t rows, int64_t depth, Operand operand) {
  HostMatrix m;
  m.operand = operand;
  const int64_t size = sizeOf(operand);
  m.stride = strideFor(operand, depth);
  m.bytes.resize(static_cast<size_t>(rows * m.stride * size));
  if (isEightBit(operand)) m.columnScale.resize(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = weight + r * depth;
    unsigned char* to = m.bytes.data() + r * m.stride * size;
    if (operand == Operand::F32) {
      std::memcpy(to, from, static_cast<size_t>(depth) * 4);
    } else if (operand == Operand::Bf16) {
      for (int64_t k = 0; k < depth; ++k) {
        const uint16_t v = roundToBf16(from[k]);
        std::memcpy(to + 2 * k, &v, 2);
      }
    } else {
      float highest = 0;
      for (int64_t k = 0; k < depth; ++k) highest = std::max(highest, std::fabs(from[k]));
      const float most = operand == Operand::Int8 ? 127.0f : kE4m3Max, inverse = highest > 0 ? most / highest : 0.0f;
      m.columnScale[static_cast<size_t>(r)] = highest / most;
      for (int64_t k = 0; k < depth; ++k) {
        to[k] = operand == Operand::Fp8 ? roundToE4m3(from[k] * inverse)
                                        : static_cast<unsigned char>(static_cast<int8_t>(std::nearbyint(static_cast<double>(from[k]) * inverse)));
      }
    }
  }
  return m;
}

// Rows of I8 or F8_E4M3 with their scales, as they are but for the zeros behind them.
inline HostMatrix packBytes(const StoredMatrix& w) {
  HostMatrix m;
  m.operand = w.dtype == DType::I8 ? Operand::Int8 : Operand::Fp8, m.stride = strideFor(m.operand, w.in), m.columnScale = w.scale;
  if (m.columnScale.empty()) m.columnScale.assign(static_cast<size_t>(w.out), 1.0f);
  m.bytes.resize(static_cast<size_t>(w.out * m.stride));
  for (int64_t r = 0; r < w.out; ++r) std::memcpy(m.bytes.data() + r * m.stride, w.row(r), static_cast<size_t>(w.in));
  return m;
}

// [out, in, kt, kh, kw] -> rows of (dt, dy, dx, channel). upsample2x: four matrices, one per parity p = 2 (y odd) + (x odd),
// of 2x2 kernels (upsampled_taps.h).
inline std::vector<float> convRows(const float* weight, int64_t out, int64_t in, int kt, int kh, int kw, bool upsample2x) {
  const int phases = upsample2x ? 4 : 1, ph = upsample2x ? 2 : kh, pw = upsample2x ? 2 : kw;
  const auto taps = [upsample2x](int kernel, int odd, int d) { return upsample2x ? upsampledTaps(kernel, odd, d) : std::pair{d, d + 1}; };
  std::vector<float> rows(static_cast<size_t>(phases * out * kt * ph * pw * in));
  size_t at = 0;
  for (int phase = 0; phase < phases; ++phase)
    for (int64_t o = 0; o < out; ++o)
      for (int dt = 0; dt < kt; ++dt)
        for (int dy = 0; dy < ph; ++dy)
          for (int dx = 0; dx < pw; ++dx) {
            const auto [y0, y1] = taps(kh, phase / 2, dy);
            const auto [x0, x1] = taps(kw, phase % 2, dx);
            for (int64_t i = 0; i < in; ++i) {
              double sum = 0;
              for (int y = y0; y < y1; ++y)
                for (int x = x0; x < x1; ++x) sum += weight[(((o * in + i) * kt + dt) * kh + y) * kw + x];
              rows[at++] = static_cast<float>(sum);
            }
          }
  return rows;
}

}  // namespace longlive::cuda

#include "stored_matrix.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "e4m3.h"
#include "longlive/error.h"

namespace longlive {

namespace {

float fromHalf(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
  if (exponent == 0) {
    const float f = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -f : f;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

template <class T, class F>
void convert(float* out, const void* in, int64_t n, F f) {
  const auto* bytes = static_cast<const char*>(in);
  for (int64_t i = 0; i < n; ++i) {
    T v;
    std::memcpy(&v, bytes + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    out[i] = f(v);
  }
}

}  // namespace

StoredMatrix StoredMatrix::rows(int64_t begin, int64_t count) const {
  StoredMatrix part = *this;
  part.data = row(begin), part.out = count;
  if (!scale.empty()) part.scale.assign(scale.begin() + begin, scale.begin() + begin + count);
  return part;
}

void toFloat(float* out, const void* in, DType type, int64_t n) {
  switch (type) {
    case DType::F32:
      if (n) std::memcpy(out, in, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::BF16: return convert<uint16_t>(out, in, n, [](uint16_t v) { return std::bit_cast<float>(static_cast<uint32_t>(v) << 16); });
    case DType::F16: return convert<uint16_t>(out, in, n, fromHalf);
    case DType::F64: return convert<double>(out, in, n, [](double v) { return static_cast<float>(v); });
    case DType::I8: return convert<int8_t>(out, in, n, [](int8_t v) { return static_cast<float>(v); });
    case DType::F8_E4M3: return convert<uint8_t>(out, in, n, fromE4m3);
    default: throw std::logic_error("toFloat: not a type of weights");
  }
}

void toFloat(float* out, const StoredMatrix& m, int64_t row) {
  toFloat(out, m.row(row), m.dtype, m.in);
  if (m.scale.empty()) return;
  const float scale = m.scale[static_cast<size_t>(row)];
  for (int64_t i = 0; i < m.in; ++i) out[i] *= scale;
}

bool allFinite(const float* values, int64_t n) {
  uint32_t found = 0;  // without a branch, so that the compiler makes vectors of it
  for (int64_t i = 0; i < n; ++i) found |= static_cast<uint32_t>((std::bit_cast<uint32_t>(values[i]) & 0x7f800000u) == 0x7f800000u);
  return found == 0;
}

void refuseNotFinite(const StoredMatrix& m) {
  throw Error(ErrorCode::InvalidPackage, m.name + ": contains NaN or infinity");
}

}  // namespace longlive

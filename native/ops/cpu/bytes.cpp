// 8-bit keys and values: absolute maximum per row and group.
//
//   scale = max |x| / 127,  byte = round(x / scale) in [-127, 127],  x' = scale * byte,  |x - x'| <= scale / 2
//
// Keys after their RMS norm and values are both stored so: one scale per token and head follows outliers of single tokens,
// costs 4 bytes per head, and is known as soon as the token is, which scales per channel over many tokens are not.
#include <algorithm>
#include <cmath>

#include "kernels.h"
#include "vector_ops.h"

namespace longlive::cpu {
namespace {

constexpr int64_t kRows = 32;         // per task
constexpr int64_t kWidth = 4096;      // channels converted at a time

}  // namespace

void toBytes(Context& c, int8_t* bytes, float* scales, const float* in, int64_t rows, int64_t width, int64_t groups) {
  const int64_t part = width / groups;
  c.pool.parallelFor(0, rows, kRows, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * groups; i < end * groups; ++i) {
      const float* x = in + i * part;
      const float largest = c.vector.absMaximum(x, part), inverse = largest > 0 ? 127.0f / largest : 0.0f;
      scales[i] = largest / 127.0f;
      for (int64_t j = 0; j < part; ++j) bytes[i * part + j] = static_cast<int8_t>(std::lrintf(x[j] * inverse));
    }
  });
}

void fromBytes(Context& c, void* out, DType outType, const int8_t* bytes, const float* scales, int64_t rows, int64_t width,
               int64_t groups) {
  const int64_t part = width / groups;
  c.pool.parallelFor(0, rows, kRows, [&](int64_t begin, int64_t end, int) {
    float some[kWidth];
    for (int64_t i = begin * groups; i < end * groups; ++i) {
      for (int64_t first = 0; first < part; first += kWidth) {
        const int64_t at = i * part + first, n = std::min(kWidth, part - first);
        float* to = outType == DType::F32 ? static_cast<float*>(out) + at : some;
        for (int64_t j = 0; j < n; ++j) to[j] = scales[i] * static_cast<float>(bytes[at + j]);
        if (outType == DType::BF16) c.vector.toBf16(static_cast<bf16*>(out) + at, some, n);
      }
    }
  });
}

void mixBytes(Context& c, int8_t* bytes, float* scales, const int8_t* otherBytes, const float* otherScales, int64_t rows, int64_t width,
              int64_t groups, float s) {
  const int64_t part = width / groups;
  c.pool.parallelFor(0, rows, kRows, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * groups; i < end * groups; ++i) {
      int8_t* mine = bytes + i * part;
      const int8_t* other = otherBytes + i * part;
      const float a = (1.0f - s) * scales[i], b = s * otherScales[i];
      const auto mixed = [&](int64_t j) { return a * static_cast<float>(mine[j]) + b * static_cast<float>(other[j]); };
      float largest = 0;
      for (int64_t j = 0; j < part; ++j) largest = std::max(largest, std::abs(mixed(j)));
      const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
      for (int64_t j = 0; j < part; ++j) mine[j] = static_cast<int8_t>(std::lrintf(mixed(j) * inverse));
      scales[i] = largest / 127.0f;
    }
  });
}

}  // namespace longlive::cpu

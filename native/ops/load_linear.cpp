// Weights from a file for backends that take F32.
#include <algorithm>

#include "ops.h"

namespace longlive {

std::unique_ptr<LinearWeights> Backend::loadLinear(const StoredMatrix& weight, const float* bias, EightBit eightBit) {
  std::vector<float> values(static_cast<size_t>(weight.out * weight.in));
  for (int64_t r = 0; r < weight.out; ++r) toFloat(values.data() + r * weight.in, weight, r);
  if (!allFinite(values.data(), weight.out * weight.in)) refuseNotFinite(weight);
  auto linear = prepareLinear(values.data(), bias, weight.out, weight.in, eightBit != EightBit::Full);
  const size_t element = precision() == Precision::FP32 ? 4 : precision() == Precision::INT8 && eightBit == EightBit::Full ? 1 : 2;
  linear->bytes = values.size() * element + (bias ? static_cast<size_t>(weight.out) * sizeof(float) : 0);
  return linear;
}

void Backend::uploadRows(const Tensor& out, const StoredMatrix& m) {
  const int64_t step = std::max<int64_t>(1, (int64_t{1} << 20) / m.in);
  std::vector<float> piece(static_cast<size_t>(std::min(step, m.out) * m.in));
  for (int64_t first = 0; first < m.out; first += step) {
    const int64_t rows = std::min(step, m.out - first);
    for (int64_t r = 0; r < rows; ++r) toFloat(piece.data() + r * m.in, m, first + r);
    if (!allFinite(piece.data(), rows * m.in)) refuseNotFinite(m);
    upload(out.rows(first, rows), piece.data());
  }
}

}  // namespace longlive

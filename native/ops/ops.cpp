// What the contract does by itself, for every backend.
#include "ops.h"

#include <algorithm>

namespace longlive {

std::unique_ptr<LinearWeights> Backend::prepareLinear(const float* weight, const float* bias, int64_t out, int64_t in, bool sensitive) {
  return loadLinear({weight, DType::F32, out, in, {}, "a matrix"}, bias, sensitive ? EightBit::Never : EightBit::Full);
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

void Backend::downloadBytes(void* host, const Tensor& in) {
  copyOut(host, in);
  const auto copied = makeMark();
  mark(*copied);
  wait(*copied);
}

}  // namespace longlive

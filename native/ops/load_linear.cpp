// Backend::loadLinear for backends that prepare weights from F32.
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

}  // namespace longlive

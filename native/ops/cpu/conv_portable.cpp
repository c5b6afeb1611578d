// Convolution kernels for any CPU: plain loops that a compiler vectorises with whatever its baseline is.
#include "conv_scalar.h"

namespace longlive::cpu {
namespace {

constexpr int kPixels = 4;

void accumulate(const ConvTile& t, float* acc) {
  std::fill_n(acc, kPixels * kConvLanes, 0.0f);
  for (int r = 0; r < t.rowCount; ++r) {
    const float* in = static_cast<const float*>(t.rows[r]);
    const float* w = static_cast<const float*>(t.weights[r]);
    for (int k = 0; k < t.run; ++k, w += kConvLanes) {
      for (int p = 0; p < kPixels; ++p) {
        const float x = in[p * t.pixelStride + k];
        for (int c = 0; c < kConvLanes; ++c) acc[p * kConvLanes + c] += x * w[c];
      }
    }
  }
}

}  // namespace

const ConvKernels& portableConvKernels() {
  static const ConvKernels k = {"portable", DType::F32, 1,           1,         {kPixels, 0},
                                {accumulate, nullptr},  finishScalar, normScalar};
  return k;
}

}  // namespace longlive::cpu

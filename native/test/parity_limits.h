// How far from the reference's F32 a case may be: max |a - b| / max |b| of its worst tensor.
//
// Rounding errors of products in a row add up in quadrature. Of one product, relative to its result, they are those of both operands:
//   bf16   2^-8 / sqrt(3) of the power of two below, which is 1 / sqrt(2) of a number on average          0.0016 each
//   int8   steps of 1 / 127 of a row's largest, which of some hundred numbers is 3.3 times their rms:
//          3.3 / 127 / sqrt(12)                                                                          0.0075 each
//   fp8    like bf16, with 3 bits behind the first: 2^-4 / sqrt(3) / sqrt(2)                              0.0255 each
// In 8-bit attention logits err as products in int8 do, weights and values as fp8 does; averaging over keys makes errors smaller, and
// what they are relative to just as much. The largest of a tensor's errors is as many times their rms as its largest number is of its own.
//
// The golden networks have two layers: sixteen products in a row go through 8 bits where linear layers do, two where attention does. The
// rest of them is in bf16 then, whose limit was found by trial: some thirteen times one product's error.
#pragma once

#include <cmath>

#include "ops.h"

namespace longlive::parity {

constexpr double kExact = 1e-4, kBf16 = 3e-2;
constexpr double kLinearsInARow = 16, kAttentionsInARow = 2;

// Of one product with both operands of the format.
inline double productError(Precision p) {
  const double each = p == Precision::INT8 ? 3.3 / 127 / std::sqrt(12.0) : std::ldexp(1.0, p == Precision::FP8 ? -4 : -8) / std::sqrt(3.0) / std::sqrt(2.0);
  return std::sqrt(2.0) * each;
}

inline double limitFor(Precision precision, AttentionArithmetic attention) {
  if (precision == Precision::FP32) return kExact;
  double variance = kBf16 * kBf16;
  const auto add = [&](double products, double error) { variance += products * error * error; };
  if (isEightBit(precision)) add(kLinearsInARow, productError(precision));
  if (attention == AttentionArithmetic::Int8) add(kAttentionsInARow, std::hypot(productError(Precision::INT8), productError(Precision::FP8)));
  return std::sqrt(variance);
}

}  // namespace longlive::parity

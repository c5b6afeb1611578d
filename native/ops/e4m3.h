// The 8-bit floating-point numbers of the tensor cores: S EEEE MMM, bias 7, no infinities, at most 448 (OCP "E4M3"). Plain C++:
// for weights on the host, and for what the emulator makes of the instructions.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace longlive {

constexpr float kE4m3Max = 448.0f;

// To nearest even; what is too large becomes the largest number.
inline uint8_t roundToE4m3(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), magnitude = bits & 0x7fffffffu, sign = bits >> 31 << 7;
  const float a = std::bit_cast<float>(magnitude);
  if (magnitude > 0x7f800000u) return 0x7f;
  if (a >= kE4m3Max) return static_cast<uint8_t>(sign | 0x7e);
  if (a < 0x1p-6f) {  // multiples of 2^-9, which is what this sum can hold
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(a + 0x1p14f) - std::bit_cast<uint32_t>(0x1p14f)));
  }
  return static_cast<uint8_t>(sign | (((magnitude + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20) - ((127 - 7) << 3)));
}

inline float fromE4m3(uint8_t bits) {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> t{};
    for (int b = 0; b < 256; ++b) {
      const int exponent = b >> 3 & 15, fraction = b & 7;
      const float magnitude = (b & 0x7f) == 0x7f ? NAN
                              : exponent == 0    ? std::ldexp(static_cast<float>(fraction), -9)
                                                 : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
      t[static_cast<size_t>(b)] = b & 0x80 ? -magnitude : magnitude;
    }
    return t;
  }();
  return table[bits];
}

}  // namespace longlive

// What options of the command line and of the addon call the choices of types.h.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "types.h"

namespace longlive {

constexpr std::array kDeviceNames = {"cpu", "cuda"};  // in the order of DeviceKind

constexpr const char* nameOf(DeviceKind d) { return kDeviceNames[static_cast<size_t>(d)]; }

inline std::optional<DeviceKind> deviceNamed(std::string_view name) {
  for (size_t i = 0; i < kDeviceNames.size(); ++i)
    if (name == kDeviceNames[i]) return static_cast<DeviceKind>(i);
  return std::nullopt;
}

constexpr std::array kPrecisionNames = {"fp32", "bf16", "int8", "fp8"};  // in the order of Precision

constexpr const char* nameOf(Precision p) { return kPrecisionNames[static_cast<size_t>(p)]; }

inline std::optional<Precision> precisionNamed(std::string_view name) {
  for (size_t i = 0; i < kPrecisionNames.size(); ++i)
    if (name == kPrecisionNames[i]) return static_cast<Precision>(i);
  return std::nullopt;
}

constexpr std::array kAttentionNames = {"full", "int8"};

constexpr const char* nameOf(AttentionArithmetic a) { return kAttentionNames[static_cast<size_t>(a)]; }

inline std::optional<AttentionArithmetic> attentionNamed(std::string_view name) {
  for (size_t i = 0; i < kAttentionNames.size(); ++i)
    if (name == kAttentionNames[i]) return static_cast<AttentionArithmetic>(i);
  return std::nullopt;
}

}  // namespace longlive

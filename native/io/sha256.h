// SHA-256 (FIPS 180-4), for the checksums of a model package.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace longlive {

std::string sha256Hex(std::span<const uint8_t> bytes);

}  // namespace longlive

// SHA-256 (FIPS 180-4), for the checksums of a model package; with the processor's own instructions where it has them.
//
// Node has one, too, and is as fast (both 0.5 to 0.8 GB/s of one busy core of an AMD EPYC). This one is here because the core checks a package
// on the threads that read it, and because its tests and benchmarks (bench_load) open packages without Node.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

namespace longlive {

class Sha256 {
 public:
  void update(std::span<const uint8_t> bytes);
  std::string hex();  // of everything so far; ends the calculation

 private:
  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_{};  // the begun block
  uint64_t bytes_ = 0;
};

std::string sha256Hex(std::span<const uint8_t> bytes);

namespace sha256 {

// Takes `blocks` times 64 bytes into the state.
using Compress = void (*)(uint32_t* state, const uint8_t* data, size_t blocks);
void compressPortable(uint32_t* state, const uint8_t* data, size_t blocks);
// The processor's own, or null.
Compress compressNative();

}  // namespace sha256

}  // namespace longlive

// Choices that appear both in the public API and inside the core.
#pragma once

#include <cstdint>

namespace longlive {

enum class DeviceKind : uint8_t { Cpu, Cuda };

// INT8 and FP8 (CUDA only): matrices and activations of the large linear layers in 8 bits, everything else in BF16.
enum class Precision : uint8_t { FP32, BF16, INT8, FP8 };

constexpr bool isEightBit(Precision p) { return p == Precision::INT8 || p == Precision::FP8; }
// What the rest of a model has where its large linear layers have 8 bits.
constexpr Precision withoutEightBit(Precision p) { return isEightBit(p) ? Precision::BF16 : p; }

// Arithmetic of self-attention: the model's own, or 8-bit products (CUDA only).
enum class AttentionArithmetic : uint8_t { Full, Int8 };

// What the KV cache keeps: values as precise as the model's arithmetic, or 8-bit ones with a scale per token and head.
enum class KvStorage : uint8_t { Full, Int8 };

// Temporal positions of keys: frame numbers, or slots of the cache (the reference's infinity mode; spec 3.5).
enum class RopeMode : uint8_t { Absolute, Relative };

// What a prompt switch does with the keys and values of the past.
enum class RecacheMode : uint8_t {
  Recache,  // rebuild them from clean latents under the new prompt (spec 4.2)
  Keep,     // leave them
  Clear,    // forget them: the next block is like the first, the picture alone goes on
};

// How texts between two prompts are found: on the straight line from one to the other, or on the arc (families-wan21 F.1).
enum class BlendKind : uint8_t { Linear, Slerp };

// Pixels of a side of a picture, of a package's own size and of a session's.
constexpr int64_t kLeastSide = 16, kMostSide = 4096, kSideStep = 16;

}  // namespace longlive

// In what form matrices lie on the device. Plain C++: also what plans of memory are made from.
#pragma once

#include <cstdint>

#include "longlive/types.h"

namespace longlive::cuda {

enum class Operand : uint8_t { F32, Bf16, Int8 };

// Which operand a matrix of this depth can use: tensor cores want rows of A in pieces of 16 bytes.
constexpr Operand operandFor(Precision precision, int64_t channels) {
  if (precision == Precision::INT8 && channels % 16 == 0) return Operand::Int8;
  return precision != Precision::FP32 && channels % 8 == 0 ? Operand::Bf16 : Operand::F32;
}
constexpr int64_t chunkElements(Operand o) { return o == Operand::Bf16 ? 32 : o == Operand::Int8 ? 64 : 1; }
constexpr int64_t sizeOf(Operand o) { return o == Operand::F32 ? 4 : o == Operand::Bf16 ? 2 : 1; }
// Elements from one packed row to the next.
constexpr int64_t strideFor(Operand o, int64_t depth) { return (depth + chunkElements(o) - 1) / chunkElements(o) * chunkElements(o); }

constexpr int64_t kWorkspaceBytes = 32 << 20;  // of cuBLASLt on each lane; what NVIDIA recommends for sm_90
constexpr int64_t kStagingBytes = 4 << 20;     // each half of a lane's staging memory

}  // namespace longlive::cuda

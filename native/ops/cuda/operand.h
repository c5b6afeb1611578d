// In what form matrices and scratch lie on the device. Plain C++: also what plans of memory are made from.
#pragma once

#include <cstddef>
#include <cstdint>

#include "longlive/types.h"
#include "tensor.h"

namespace longlive::cuda {

enum class Operand : uint8_t { F32, Bf16, Int8, Fp8 };

// Which operand a matrix of this depth can use: tensor cores want rows of A in pieces of 16 bytes.
constexpr Operand operandFor(Precision precision, int64_t channels) {
  if (isEightBit(precision) && channels % 16 == 0) return precision == Precision::INT8 ? Operand::Int8 : Operand::Fp8;
  return precision != Precision::FP32 && channels % 8 == 0 ? Operand::Bf16 : Operand::F32;
}
constexpr bool isEightBit(Operand o) { return o == Operand::Int8 || o == Operand::Fp8; }  // with a scale per row
constexpr int64_t chunkElements(Operand o) { return o == Operand::F32 ? 1 : o == Operand::Bf16 ? 32 : 64; }
constexpr int64_t sizeOf(Operand o) { return o == Operand::F32 ? 4 : o == Operand::Bf16 ? 2 : 1; }
// Backend::linearType.
constexpr DType linearType(Precision precision, int64_t width) {
  switch (operandFor(precision, width)) {
    case Operand::Int8: return DType::I8;
    case Operand::Fp8: return DType::F8_E4M3;
    default: return precision == Precision::FP32 ? DType::F32 : DType::BF16;
  }
}
// Elements from one packed row to the next.
constexpr int64_t strideFor(Operand o, int64_t depth) { return (depth + chunkElements(o) - 1) / chunkElements(o) * chunkElements(o); }

constexpr int64_t kWorkspaceBytes = 32 << 20;  // of cuBLASLt on each lane; what NVIDIA recommends for sm_90
constexpr int64_t kStagingBytes = 4 << 20;     // each half of a lane's staging memory

constexpr size_t padded(size_t bytes) { return (bytes + 255) / 256 * 256; }  // of a piece of scratch, so that the next one begins aligned

}  // namespace longlive::cuda

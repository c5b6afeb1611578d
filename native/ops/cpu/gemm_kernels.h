// The inner loop of every matrix product: linear layers and both products of attention.
//
//   C[r][j] (+)= sum over words w of dot(A[r][w], B[w][j]),   r < rows <= stripRows,  j < 32
//
// All precisions share one layout because all of them eat 32-bit words: a word is one float, two bf16 (VDPBF16PS,
// TDPBF16PS) or four bytes (VPDPBUSD, TDPBUSD), and dot() multiplies the elements of a word pairwise.
//
//   A  rows of a strip, kStride words apart. The fixed stride makes every row address a constant displacement from one
//      register, and 17 cache lines spread the rows over the sets of the L1 cache.
//   B  a panel of 32 output columns, [words][32]: weights are packed so once, keys and values per block. A block of
//      kBlock words (32 KiB) stays in L1 while the strips of a tile pass over it.
//   C  [stripRows][ldc] F32, or I32 for bytes.
//
// A and C must have room for stripRows rows, whatever `rows` is: tile units compute whole tiles. For BF16 and INT8, `words`
// must be a multiple of 16 for the same reason (pad with zeros).
#pragma once

#include <cstdint>

#include "cpu_features.h"
#include "ops.h"

namespace longlive::cpu {

constexpr int kPanel = 32;           // columns of a panel
constexpr int kBlock = 256;          // most words of one call
constexpr int kStride = kBlock + 16; // words between rows of A

struct GemmKernel {
  const char* name;
  int stripRows;
  void (*run)(int rows, int columns, int words, const uint32_t* a, const uint32_t* b, void* c, int64_t ldc, bool accumulate);
  void (*begin)();  // before the first and after the last call of a task on its thread: tile configuration
  void (*end)();
};

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Elements of a word.
constexpr int elementsPerWord(Precision p) { return p == Precision::FP32 ? 1 : p == Precision::BF16 ? 2 : 4; }

// What words of `format` are multiplied as: bf16 as floats, which products of bf16 are exact in, where nothing multiplies pairs of them. A block
// of words is taken apart once for all strips of a tile then, and not by each in its inner loop.
Precision operandOf(Isa isa, Precision format);

// The best kernel of a level, by operand.
const GemmKernel& gemmKernel(Isa isa, Precision operand);

namespace portable { extern const GemmKernel gemmF32, gemmBf16, gemmInt8; }
#if defined(__x86_64__)
namespace avx2 { extern const GemmKernel gemmF32, gemmInt8; }
namespace avx512 { extern const GemmKernel gemmF32, gemmInt8; }
namespace avx512bf16 { extern const GemmKernel gemmBf16; }
namespace avx512vnni { extern const GemmKernel gemmInt8; }
namespace amx { extern const GemmKernel gemmBf16, gemmInt8; }
#elif defined(__aarch64__)
namespace neon { extern const GemmKernel gemmF32, gemmInt8; }
namespace neondot { extern const GemmKernel gemmInt8; }
#endif

}  // namespace longlive::cpu

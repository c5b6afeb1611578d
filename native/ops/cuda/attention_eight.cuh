// What the 8-bit attention kernels share with what makes their operands (attention_eight.cu).
#pragma once

#include "attention_device.cuh"

namespace longlive::cuda {

// Accumulators that begin at this number are, read as F32, 1.5 2^23 + the sum: no conversion is needed while |sum| < 2^22.
constexpr int32_t kMagicBits = 0x4b400000;
constexpr float kMagic = 12582912.0f;
static_assert(127 * 127 * 128 < 1 << 22);
constexpr float kWeightBits = 8.0f;  // P = 2^8 at most

// P's accumulators hold keys 2 t, 2 t + 1 of every 8 (lane % 4 = t); as an operand of 8 bits, words of four neighbours. So that P stays in
// its lane, the keys of V^T lie in this order, within every 16: 0 1 8 9, 2 3 10 11, 4 5 12 13, 6 7 14 15.
__host__ __device__ constexpr int eightKeyOf(int word, int byte) { return word / 4 * 16 + byte / 2 * 8 + word % 4 * 2 + byte % 2; }
__host__ __device__ constexpr int eightWordOf(int key) { return key / 16 * 4 + key / 2 % 4; }
__host__ __device__ constexpr int eightByteOf(int key) { return key / 8 % 2 * 2 + key % 2; }

// Every how many-th key is looked at for K's mean and V's range: 2,048 keys and more say enough. Odd, so that no row or column of the
// picture is left out.
__host__ __device__ constexpr int64_t eightEvery(int64_t keys) { return keys / 2048 | 1; }

// EightBitLayout in pointers.
struct EightBitOperands {
  int8_t *q, *k;
  uint8_t* v;
  float *qScale, *kScale, *sums, *mean, *vScale;
  int64_t keyRows;   // of a head's K: whole tiles
  int64_t tiles;     // of the keys that are visible
  int64_t page = 0;  // rows of a page whose tiles lie where its keys do; 0: tiles lie one behind the other as the runs have them
};

// attention_eight_sm90.cu
bool hasEightBitHopper();  // whether this build has the kernel
void eightBitHopper(cudaStream_t, const AttentionCall&, const EightBitOperands&, const Workspace&);

}  // namespace longlive::cuda

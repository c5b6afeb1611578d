// What the attention kernels share.
#pragma once

#include "attention_plan.h"
#include "attention_schedule.h"
#include "device.cuh"
#include "kernels.h"

namespace longlive::cuda {

constexpr float kLog2e = 1.4426950408889634f;

// One call; pointers are to elements of the kernel's type.
struct AttentionCall {
  void* out;
  const void *q, *k, *v;
  const float* bias;  // [heads, queries + keys - 1] by key - query + queries - 1, or null
  int64_t queries, keys;
  int heads, headDim;
  float scale, lastKeyLogBias;
  KeyRuns runs;

  __device__ __forceinline__ float biasOf(int head, int64_t query, int64_t key) const {
    return bias[head * (queries + keys - 1) + key - query + queries - 1];
  }
};

// Checks the shapes.
AttentionCall attentionCall(const AttentionArgs& args);  // attention.cu

// Row of the `index`-th visible key.
__device__ __forceinline__ int64_t rowOfKey(const KeyRuns& runs, int64_t index) {
  int run = 0;
  while (index >= runs.count[run]) index -= runs.count[run++];
  return runs.begin[run] + index;
}

// Walks over the tiles of the runs.
struct KeyTiles {
  int run = 0;
  int64_t used = 0;   // keys of the run behind us
  int64_t first = 0;  // row of the tile's first key
  int64_t index = 0;  // its number among the visible keys
  int count = 0;      // keys in the tile
  int64_t seen = 0;

  __device__ __forceinline__ void next(const KeyRuns& runs, int size) {
    const int64_t left = runs.count[run] - used;
    first = runs.begin[run] + used;
    index = seen;
    count = static_cast<int>(left < size ? left : size);
    seen += count;
    used += count;
    if (used == runs.count[run]) ++run, used = 0;
  }
  // The tile that next() gives at the number-th call.
  __device__ __forceinline__ void at(const KeyRuns& runs, int size, int64_t number) {
    for (int64_t tiles = 0;; ++run) {
      const int64_t here = (runs.count[run] + size - 1) / size;
      if (number < tiles + here) {
        used = (number - tiles) * size, seen += used;
        return next(runs, size);
      }
      tiles += here, seen += runs.count[run];
    }
  }
};

// Puts the parts of units together that a schedule cuts. Logits times `scale2` are exponents of 2; valueScale [heads * headDim]: what values are to
// be multiplied with, or null.
void joinParts(cudaStream_t, const AttentionCall&, const AttentionSchedule&, const AttentionParts&, float scale2, const float* valueScale);  // attention.cu

void attentionPlain(cudaStream_t, const AttentionCall&, DType);          // attention_plain.cu
bool attentionPortable(cudaStream_t, const AttentionCall&);              // attention.cu; false: no kernel for this head
bool attentionHopper(cudaStream_t, const AttentionCall&, int64_t rows, const Workspace&);  // attention_sm90.cu; likewise

}  // namespace longlive::cuda

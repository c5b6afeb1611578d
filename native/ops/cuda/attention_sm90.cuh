// What Hopper's attention kernels (attention_sm90.cu, attention_eight_sm90.cu) share: who is in a block, its barriers, and the launch of a grid
// that stays. Include it where sm90.cuh may be.
#pragma once

#include "attention_device.cuh"
#include "launch.h"
#include "sm90.cuh"

namespace longlive::cuda {

constexpr int kAttentionConsumers = 2;                               // warpgroups, of 64 queries each
constexpr int kAttentionThreads = 128 * (kAttentionConsumers + 1);  // and the producer's

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Full: bytes arrived. Empty: one arrival per consumer warp, of both blocks for what both are copied.
template <int Stages> struct AttentionBarriers {
  uint64_t queriesFull, queriesEmpty, keysFull[Stages], keysEmpty[Stages], valuesFull[Stages], valuesEmpty[Stages];

  // By one thread; the barriers have to be published.
  __device__ __forceinline__ void init() {
    constexpr int kWarps = 4 * kAttentionConsumers;
    initBarrier(&queriesFull, 1);
    initBarrier(&queriesEmpty, kWarps);
    for (int i = 0; i < Stages; ++i) {
      initBarrier(&keysFull[i], 1);
      initBarrier(&valuesFull[i], 1);
      initBarrier(&keysEmpty[i], kWarps * kAttentionPair);
      initBarrier(&valuesEmpty[i], kWarps * kAttentionPair);
    }
  }
};

#endif

// Launches Kernel(operands..., schedule, parts) on as many clusters as run at the same time, and puts together what it leaves in parts (joinParts).
// False: none runs.
template <auto Kernel, class... Operands>
bool launchPairs(const char* name, cudaStream_t stream, const AttentionCall& a, int64_t tiles, size_t shared, const Workspace& workspace, float scale2,
                 const float* valueScale, const Operands&... operands) {
  static PerDevice active;
  const int clusters = active([&](int) { return activeClusters(Kernel, kAttentionPair, kAttentionThreads, shared); });
  if (clusters == 0) return false;
  const int slots = 2 * clusters;
  const AttentionSchedule schedule = AttentionSchedule::plan(a.heads, ceilDiv(a.queries, int64_t{AttentionParts::kQueries}), tiles, clusters,
                                                             AttentionParts::bytes(slots) <= workspace.bytes);
  const AttentionParts parts = AttentionParts::at(workspace.data, slots);
  launchClusters(name, Kernel, dim3(static_cast<unsigned>(schedule.blocks * kAttentionPair)), kAttentionPair, kAttentionThreads, shared, stream, operands..., schedule,
                 parts);
  if (schedule.cut) joinParts(stream, a, schedule, parts, scale2, valueScale);
  return true;
}

}  // namespace longlive::cuda

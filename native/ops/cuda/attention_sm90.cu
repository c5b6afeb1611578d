// Attention in bf16 for Hopper (sm_90a): heads of 128, wgmma and the bulk copy engine. The scheme is that of attention.cu.
//
//   block     two consumer warpgroups of 64 queries each, and a producer warp that only issues copies
//   cluster   two blocks with the same keys: either copies half of every tile of K and V into both, since L2 could not deliver the whole
//             to each (24 bytes per cycle and multiprocessor; a tile is 88 KB, its products take 2816 cycles)
//   copies    TMA boxes of 64 columns (128-byte swizzle), as many rows as a tile has; a tile of 176 keys is two boxes of K and two of V;
//             two stages of each, handed over by mbarriers (full: bytes arrived; empty: one arrival per consumer warp of both)
//   products  S = Q K^T: m64n176k16, both operands from shared memory, K-major;  O += P V: m64n128k16, P from registers, V read along
//             its rows ("MN-major")
//   tiles     of 176 keys, since what a tile waits for whatever its size (barriers, shuffles, products in flight) is then waited for less
//             often; they fill 98.5 % of 1,560 keys or a multiple, 160 would 97.5, 128 92 (one frame) to 99. More do not fit: 240 registers
//   overlap   Q K_{i+1}^T and P_i V_i are queued together, in this order: the exponentials of i+1 are taken while values are
//             multiplied (FlashAttention-3, arXiv 2407.08608). The warpgroups do not take turns: that was slower by 2 %
//   grid      a block per multiprocessor stays; units that do not fill a turn are cut along the keys (attention_schedule.h)
//
// A tile that a run of keys does not fill reads on into whatever follows in the buffer: those logits are masked, and the
// values, finite because the caches are zeroed when made, are multiplied by zero. Rows behind the buffer read as zeros.
//
// Bound: arithmetic, 4 queries keys 128 operations per head at the wgmma rate. Registers: S 88, O 64, P 44 per thread of 240.
#include "attention_device.cuh"

#ifdef LONGLIVE_SM90A

#include "attention_sm90.cuh"
#include "ptx.cuh"

namespace longlive::cuda {
namespace {

constexpr int kHead = 128, kQueries = 128, kKeys = kKeysHopper, kStages = 2, kChains = 4;
constexpr int kBoxColumns = 64, kQueryBox = kQueries * kBoxColumns * 2, kKeyBox = kKeys * kBoxColumns * 2;  // bytes
constexpr int kQueryBytes = 2 * kQueryBox, kKeyBytes = 2 * kKeyBox;                                        // of a tile: two boxes
constexpr int kBarriersAt = kQueryBytes + 2 * kStages * kKeyBytes;
constexpr int kShared = kBarriersAt + 8 * (2 + 4 * kStages);
static_assert(kKeys % 16 == 0 && kKeys <= 256 && kKeyBox % 1024 == 0, "whole steps of P V, one box, and a swizzle that begins where a box does");
static_assert(kShared <= 227 * 1024);

struct Maps { CUtensorMap q, k, v; };

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

using Barriers = AttentionBarriers<kStages>;

// Place of the n-th tile that a block reads, over all its parts, and the phase of its barriers.
__device__ __forceinline__ int stageOf(unsigned n) { return static_cast<int>(n % kStages); }
__device__ __forceinline__ uint32_t phaseOf(unsigned n) { return n / kStages & 1; }

__device__ __forceinline__ void produce(const Maps& maps, const AttentionCall& a, const AttentionSchedule& schedule, unsigned char* queries,
                                        Barriers* barriers) {
  const int rank = clusterRank();
  unsigned char* keys = queries + kQueryBytes;
  unsigned char* values = keys + kStages * kKeyBytes;
  unsigned n = 0;
  for (int number = 0;; ++number) {
    const AttentionPart part = schedule.part(static_cast<int>(blockIdx.x) / kAttentionPair, number, rank);
    if (part.tiles == 0) return;
    const int column = part.at.head * kHead, firstQuery = part.at.queryTile * kQueries;
    const auto load = [&](unsigned char* to, const CUtensorMap* map, int row, uint64_t* full) {
      expectBytes(full, kKeyBytes);
      for (int box = 0; box < 2; ++box) copyHalf(part.at.paired, box, rank, to + box * kKeyBox, map, column + box * kBoxColumns, row, full);
    };
    // The first round finds everything empty.
    waitFor(&barriers->queriesEmpty, (number & 1) ^ 1);
    expectBytes(&barriers->queriesFull, kQueryBytes);
    for (int box = 0; box < 2; ++box) copyBox(queries + box * kQueryBox, &maps.q, column + box * kBoxColumns, firstQuery, &barriers->queriesFull);
    KeyTiles tile;
#pragma unroll 1  // of the producer's few registers
    for (int i = 0; i < part.tiles; ++i, ++n) {
      if (i == 0) tile.at(a.runs, kKeys, part.firstTile);
      else if (i < part.present) tile.next(a.runs, kKeys);
      const int stage = stageOf(n);
      waitFor(&barriers->keysEmpty[stage], phaseOf(n) ^ 1);
      load(keys + stage * kKeyBytes, &maps.k, static_cast<int>(tile.first), &barriers->keysFull[stage]);
      waitFor(&barriers->valuesEmpty[stage], phaseOf(n) ^ 1);
      load(values + stage * kKeyBytes, &maps.v, static_cast<int>(tile.first), &barriers->valuesFull[stage]);
    }
  }
}

__device__ __forceinline__ void consume(const AttentionCall& a, const AttentionSchedule& schedule, const AttentionParts& parts, unsigned char* queries,
                                        Barriers* barriers) {
  const int rank = clusterRank();
  const int group = consumerGroup(), warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  // 64 rows of 128 bytes in each of the two boxes; the first stage of keys, and of values, which are read along their rows.
  const uint64_t rows = describe(queries + group * 64 * 128, 16), keys = describe(queries + kQueryBytes, 16);
  const uint64_t values = describe(queries + kQueryBytes + kStages * kKeyBytes, kKeyBox);
  const float scale2 = a.scale * kLog2e;
  const auto release = [&](uint64_t* b) { arriveAtBoth(b, lane); };
  const auto releaseQueries = [&] {
    if (lane == 0) arrive(&barriers->queriesEmpty);
  };
  float s[kKeys / 8][4], out[16][4];
  uint32_t p[kKeys / 16][4];
  float maximum[2], sum[2], shrink[2];
  KeyTiles tile;

  const auto queueLogits = [&](unsigned n) {
    const uint64_t at = further(keys, stageOf(n) * kKeyBytes);
#pragma unroll
    for (int step = 0; step < kHead / 16; ++step) {
      multiply<kKeys>(s, further(rows, step / 4 * kQueryBox + step % 4 * 32), further(at, step / 4 * kKeyBox + step % 4 * 32), step > 0);
    }
    commit();
  };
  const auto queueValues = [&](unsigned n) {
    const uint64_t at = further(values, stageOf(n) * kKeyBytes);
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) multiplyRegisters(out, p[step], further(at, step * 16 * 128));
    commit();
  };
  // Logits become exponentials; `shrink` is what all before them is to be multiplied with.
  const auto exponentials = [&] {
    if (tile.count < kKeys || tile.seen == a.keys) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int key = n * 8 + lane % 4 * 2 + e % 2;
          if (tile.index + key == a.keys - 1) s[n][e] += a.lastKeyLogBias / a.scale;
          if (key >= tile.count) s[n][e] = -INFINITY;
        }
    }
    // Both rows at once and four chains in each: a scheduler has one warp of the group, which would wait for itself.
    float highest[2], offset[2], part[2][kChains];
    {
      float top[2][kChains];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int low = 0; low < 2; ++low) {
          const float most = fmaxf(s[n][2 * low], s[n][2 * low + 1]);
          top[low][n % kChains] = n < kChains ? most : fmaxf(top[low][n % kChains], most);
        }
#pragma unroll
      for (int low = 0; low < 2; ++low) highest[low] = fmaxf(fmaxf(fmaxf(top[low][0], top[low][1]), fmaxf(top[low][2], top[low][3])), maximum[low]);
    }
#pragma unroll
    for (int lanes = 1; lanes < 4; lanes *= 2)
#pragma unroll
      for (int low = 0; low < 2; ++low) highest[low] = fmaxf(highest[low], __shfl_xor_sync(0xffffffffu, highest[low], lanes));
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      shrink[low] = exp2Fast((maximum[low] - highest[low]) * scale2);
      offset[low] = highest[low] * scale2, maximum[low] = highest[low];
    }
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int low = 0; low < 2; ++low) {
        const float a = exp2Fast(s[n][2 * low] * scale2 - offset[low]), b = exp2Fast(s[n][2 * low + 1] * scale2 - offset[low]);
        s[n][2 * low] = a, s[n][2 * low + 1] = b;
        part[low][n % kChains] = n < kChains ? a + b : part[low][n % kChains] + (a + b);
      }
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      sum[low] = sum[low] * shrink[low] + ((part[low][0] + part[low][1]) + (part[low][2] + part[low][3]));
    }
  };
  const auto pack = [&] {
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      const auto &first = s[2 * step], &second = s[2 * step + 1];
      p[step][0] = packBf16(first[0], first[1]), p[step][1] = packBf16(first[2], first[3]);
      p[step][2] = packBf16(second[0], second[1]), p[step][3] = packBf16(second[2], second[3]);
    }
  };

  unsigned n = 0;
  for (int number = 0;; ++number) {
    const AttentionPart part = schedule.part(static_cast<int>(blockIdx.x) / kAttentionPair, number, rank);
    if (part.tiles == 0) return;
    maximum[0] = maximum[1] = kNoLogit, sum[0] = sum[1] = 0;
#pragma unroll
    for (int i = 0; i < 16; ++i) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0;

    waitFor(&barriers->queriesFull, number & 1);
    waitFor(&barriers->keysFull[stageOf(n)], phaseOf(n));
    pin(s);
    fence();
    queueLogits(n);
    waitProducts<0>();
    pin(s);
    release(&barriers->keysEmpty[stageOf(n)]);
    if (part.tiles == 1) releaseQueries();
    tile = {};
    tile.at(a.runs, kKeys, part.firstTile);
    if (part.present == 0) tile.count = 0;
    exponentials();
    pack();

    for (int i = 1; i < part.tiles; ++i, ++n) {
      waitFor(&barriers->keysFull[stageOf(n + 1)], phaseOf(n + 1));
      waitFor(&barriers->valuesFull[stageOf(n)], phaseOf(n));
      pin(out);
      pin(s);
      fence();
      queueLogits(n + 1);
      queueValues(n);
      waitProducts<1>();
      pin(s);
      release(&barriers->keysEmpty[stageOf(n + 1)]);
      if (i + 1 == part.tiles) releaseQueries();
      if (i < part.present) tile.next(a.runs, kKeys);
      else tile.count = 0;
      exponentials();  // while the values are multiplied
      // The largest logit hardly ever changes once some hundred keys were seen. The sums, which are never negative, are asked so that the branch
      // needs all exponentials: the compiler would put the wait before them.
      if (__any_sync(0xffffffffu, shrink[0] != 1.0f || shrink[1] != 1.0f || sum[0] < 0.0f || sum[1] < 0.0f)) {
        waitProducts<0>();
        pin(out);
#pragma unroll
        for (int j = 0; j < 16; ++j) out[j][0] *= shrink[0], out[j][1] *= shrink[0], out[j][2] *= shrink[1], out[j][3] *= shrink[1];
      } else {
        waitProducts<0>();
        pin(out);
      }
      pin(s);
      release(&barriers->valuesEmpty[stageOf(n)]);
      pack();
    }
    waitFor(&barriers->valuesFull[stageOf(n)], phaseOf(n));
    pin(out);
    fence();
    queueValues(n);
    waitProducts<0>();
    pin(out);
    release(&barriers->valuesEmpty[stageOf(n)]);
    ++n;

#pragma unroll
    for (int low = 0; low < 2; ++low) {
      float total = sum[low];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      const int row = group * 64 + warp * 16 + low * 8 + lane / 4, column = lane % 4 * 2;
      if (part.slot >= 0) {
        const int64_t at = AttentionParts::row(part.slot, rank, row);
        float* to = parts.sums + at * kHead + column;
        if (lane % 4 == 0) parts.rows[at] = {maximum[low], total};
#pragma unroll
        for (int j = 0; j < 16; ++j) *reinterpret_cast<float2*>(to + j * 8) = {out[j][2 * low], out[j][2 * low + 1]};
        continue;
      }
      const float inverse = 1.0f / total;
      const int64_t query = static_cast<int64_t>(part.at.queryTile) * kQueries + row;
      if (query >= a.queries) continue;
      bf16* to = static_cast<bf16*>(a.out) + (query * a.heads + part.at.head) * kHead + column;
#pragma unroll
      for (int j = 0; j < 16; ++j) *reinterpret_cast<uint32_t*>(to + j * 8) = packBf16(out[j][2 * low] * inverse, out[j][2 * low + 1] * inverse);
    }
  }
}

#endif

__global__ void LONGLIVE_CLUSTER(kAttentionPair) __launch_bounds__(kAttentionThreads, 1)
hopperKernel(const __grid_constant__ Maps maps, const __grid_constant__ AttentionCall a, const __grid_constant__ AttentionSchedule schedule,
             const __grid_constant__ AttentionParts parts) {
  followEarlier();
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  unsigned char* queries = dynamicShared();
  Barriers* barriers = reinterpret_cast<Barriers*>(queries + kBarriersAt);
  if (threadIdx.x == 0) {
    barriers->init();
    publishBarriers();
  }
  clusterSync();
  if (threadIdx.x >= 128 * kAttentionConsumers) {
    giveRegistersBack<24>();
    if (threadIdx.x == 128 * kAttentionConsumers) produce(maps, a, schedule, queries, barriers);
  } else {
    takeRegisters<240>();
    consume(a, schedule, parts, queries, barriers);
  }
  clusterSync();  // nobody's memory goes while the other one copies into it or arrives there
#endif
}

// A matrix [rows, columns] of bf16 in boxes of boxRows x 64.
bool encode(CUtensorMap* map, const void* data, int64_t rows, int64_t columns, int boxRows) {
  return encodeTensorMap<2>(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, data, {columns, rows}, {kBoxColumns, boxRows});
}

}  // namespace

bool attentionHopper(cudaStream_t stream, const AttentionCall& a, int64_t rows, const Workspace& workspace) {
  if (a.headDim != kHead || a.keys <= kFewKeys || a.bias || !(a.scale > 0)) return false;
  const int64_t width = static_cast<int64_t>(a.heads) * kHead;
  Maps maps;
  if (!encode(&maps.q, a.q, a.queries, width, kQueries) || !encode(&maps.k, a.k, rows, width, kKeys) || !encode(&maps.v, a.v, rows, width, kKeys)) return false;
  return launchPairs<&hopperKernel>("attentionHopper", stream, a, a.runs.tiles(kKeys), kShared, workspace, a.scale * kLog2e, nullptr, maps, a);
}

}  // namespace longlive::cuda

#else

namespace longlive::cuda {

bool attentionHopper(cudaStream_t, const AttentionCall&, int64_t, const Workspace&) { return false; }

}  // namespace longlive::cuda

#endif

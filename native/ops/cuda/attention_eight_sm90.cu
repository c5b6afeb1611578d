// 8-bit attention for Hopper (sm_90a): heads of 128, wgmma and the bulk copy engine. Operands, scales and the order of V^T's keys are
// those of attention_eight.cu, blocks and hand-overs those of attention_sm90.cu; tiles are of 128 queries and 128 keys.
//
//   S = Q K^T    m64n128k32 in int8, both operands from shared memory; accumulators begin at 1.5 2^23 and are read as floats
//   P            2^(S scale - m + 8) in e4m3, from registers; the largest S by integers (three at once: the order is that of floats)
//   O, l = P V   m64n136k32 in e4m3: V^T, and below it a row of ones and seven of zeros, which make the sum of P as it was rounded.
//                The tensor cores keep 14 bits of such sums: a tile's goes over into F32, in the multiplication that rescales O
//   overlap      Q K_{i+1}^T and P_i V_i are queued together; exponentials of the former are taken while the latter is multiplied
//
// Bound, cycles of a multiprocessor per tile of 128 x 128: tensor cores 512 + 544; special function unit 1024 if it takes all 16384
// exponentials (16 a cycle); about 430 instructions per warp and tile, 860 of the two warps of a scheduler. Limits that close are not
// reached together, so kLines of every 4 words of P are made without the special function unit: between powers of two the codes of e4m3
// are linear, so 8 (x + 7), rounded, is nearly the code of 2^x, and no more instructions than the other way. Such weights err by 3.1 % rms,
// correctly rounded ones by 2.6 %; the sum l is of the weights as they are. What is below 2^-6 comes out too small.
//
// Registers: S 64, a tile's O 68, O 68, P 16 per thread of 240.
#include "attention_eight.cuh"

#ifdef LONGLIVE_SM90A

#include "attention_sm90.cuh"
#include "ptx.cuh"

namespace longlive::cuda {
namespace {

constexpr int kHead = 128, kQueries = 128, kKeys = kEightKeysHopper, kStages = 4;
constexpr int kTileBytes = 128 * 128;            // of Q, K or V^T: one box
constexpr int kOnesBytes = 8 * 128;              // below V^T
constexpr int kValueBytes = kTileBytes + kOnesBytes;
constexpr int kStageBytes = kTileBytes + kValueBytes;
constexpr int kBarriersAt = kTileBytes + kStages * kStageBytes;
constexpr int kShared = kBarriersAt + 8 * (2 + 4 * kStages);
static_assert(kHead == 128 && kKeys == 128, "a row is what 128-byte swizzle turns");
static_assert(kQueries == kEightQueries);

struct Maps { CUtensorMap q, k, v; };

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

using Barriers = AttentionBarriers<kStages>;

struct Stages {
  unsigned char* memory;
  __device__ __forceinline__ unsigned char* queries() const { return memory; }
  __device__ __forceinline__ unsigned char* keys(int i) const { return memory + kTileBytes + i % kStages * kStageBytes; }
  __device__ __forceinline__ unsigned char* values(int i) const { return keys(i) + kTileBytes; }
  __device__ __forceinline__ Barriers* barriers() const { return reinterpret_cast<Barriers*>(memory + kBarriersAt); }
};

// Stages and phases of barriers go on from part to part: n counts the tiles of a block.
__device__ __forceinline__ void produce(const Maps& maps, const AttentionCall& a, const EightBitOperands& o, const AttentionSchedule& schedule, const Stages& stages) {
  Barriers* barriers = stages.barriers();
  const int rank = clusterRank();
  int n = 0;
  for (int number = 0;; ++number) {
    const AttentionPart part = schedule.part(static_cast<int>(blockIdx.x) / kAttentionPair, number, rank);
    if (part.tiles == 0) return;
    // By halves of the tile's rows.
    const auto load = [&](unsigned char* to, const CUtensorMap* map, int column, int row, uint64_t* full) {
      expectBytes(full, kTileBytes);
      for (int half = 0; half < 2; ++half) copyHalf(part.at.paired, half, rank, to + half * kTileBytes / 2, map, column, row + half * 64, full);
    };
    waitFor(&barriers->queriesEmpty, (number & 1) ^ 1);  // the first round finds everything empty
    expectBytes(&barriers->queriesFull, kTileBytes);
    copyBox(stages.queries(), &maps.q, 0, static_cast<int>(part.at.head * a.queries) + part.at.queryTile * kQueries, &barriers->queriesFull);
#pragma unroll 1  // of the producer's few registers
    for (int i = 0; i < part.tiles; ++i, ++n) {
      const int stage = n % kStages, key = (part.firstTile + (i < part.present ? i : 0)) * kKeys;
      const uint32_t parity = (n / kStages & 1) ^ 1;
      waitFor(&barriers->keysEmpty[stage], parity);
      load(stages.keys(n), &maps.k, 0, static_cast<int>(part.at.head * o.keyRows) + key, &barriers->keysFull[stage]);
      waitFor(&barriers->valuesEmpty[stage], parity);
      load(stages.values(n), &maps.v, key, part.at.head * kHead, &barriers->valuesFull[stage]);
    }
  }
}

// The largest logits of the two rows, which four lanes share: of integers, whose order is that of the floats that they are. Four chains in
// each: a scheduler has one warp of the group, which would wait for itself.
__device__ __forceinline__ void largest(const int32_t (&s)[16][4], float (&highest)[2]) {
  int32_t top[2][4], most[2];
#pragma unroll
  for (int n = 0; n < 16; ++n)
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      int32_t& chain = top[low][n % 4];
      chain = n < 4 ? max(s[n][2 * low], s[n][2 * low + 1]) : __vimax3_s32(chain, s[n][2 * low], s[n][2 * low + 1]);
    }
#pragma unroll
  for (int low = 0; low < 2; ++low) most[low] = max(__vimax3_s32(top[low][0], top[low][1], top[low][2]), top[low][3]);
#pragma unroll
  for (int lanes = 1; lanes < 4; lanes *= 2)
#pragma unroll
    for (int low = 0; low < 2; ++low) most[low] = max(most[low], __shfl_xor_sync(0xffffffffu, most[low], lanes));
#pragma unroll
  for (int low = 0; low < 2; ++low) highest[low] = __int_as_float(most[low]);
}

// Which words of P are made by lines: kLines of every four of a step, others in every step, so that no row or key has more of them.
constexpr int kLines = 1;
__device__ __forceinline__ constexpr bool byLine(int step, int i) { return (step + i) % 4 < kLines; }
constexpr float kLineBits = 0.0575f;  // lowers x so that the mean of such weights is that of 2^x

// The lowest bytes of four words.
__device__ __forceinline__ uint32_t packCodes(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  return __byte_perm(__byte_perm(c0, c1, 0x0040), __byte_perm(c2, c3, 0x0040), 0x5410);
}

__device__ __forceinline__ void consume(const AttentionCall& a, const EightBitOperands& o, const AttentionSchedule& schedule, const AttentionParts& parts,
                                        const Stages& stages) {
  const int group = static_cast<int>(threadIdx.x) / 128, warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  const int rank = clusterRank();
  Barriers* barriers = stages.barriers();
  const auto release = [&](uint64_t* b) { arriveAtBoth(b, lane); };
  const auto releaseQueries = [&] {
    if (lane == 0) arrive(&barriers->queriesEmpty);
  };
  int32_t s[16][4];
  float part[17][4] = {}, out[17][4];  // the last four: the sum of weights, in the first lane of four
  uint32_t p[kKeys / 32][4];
  float maximum[2], shrink[2], rowScale[2];
  KeyTiles tile;

  const uint64_t queries = describe(stages.queries() + group * 64 * 128, 16), keys = describe(stages.keys(0), 16), values = describe(stages.values(0), 16);
  const auto awaitValues = [&](int i) { waitFor(&barriers->valuesFull[i % kStages], i / kStages & 1); };
  const auto multiplyKeys = [&](int i) {
    const uint64_t tile = further(keys, i % kStages * kStageBytes);
    waitFor(&barriers->keysFull[i % kStages], i / kStages & 1);
    fence();
#pragma unroll
    for (int step = 0; step < kHead / 32; ++step) multiplyInt8(s, further(queries, step * 32), further(tile, step * 32));
    commit();
  };
  const auto multiplyValues = [&](int i) {
    const uint64_t tile = further(values, i % kStages * kStageBytes);
    fence();
#pragma unroll
    for (int step = 0; step < kKeys / 32; ++step) multiplyE4m3(part, p[step], further(tile, step * 32), step > 0);
    commit();
  };
  const auto beginLogits = [&] {
#pragma unroll
    for (int n = 0; n < 16; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) s[n][e] = kMagicBits;
    pin(s);
  };

  // From logits to weights, and what O is to be multiplied with. Not yet in 8 bits: ptxas would have all products wait for each other
  // if words that products take were written while any are under way.
  const auto softmax = [&](float keyScale, float (&shrinkBy)[2]) {
    if (tile.count < kKeys) {
#pragma unroll
      for (int n = 0; n < 16; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (n * 8 + lane % 4 * 2 + e % 2 >= tile.count) s[n][e] = __float_as_int(-INFINITY);
        }
    }
    float top[2], factor[2], offset[2], lineFactor[2], lineOffset[2];
    largest(s, top);
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      factor[low] = rowScale[low] * keyScale;
      const float highest = fmaxf(maximum[low], (top[low] - kMagic) * factor[low]);
      shrinkBy[low] = exp2Fast(maximum[low] - highest);
      maximum[low] = highest;
      offset[low] = fmaf(kMagic, factor[low], highest - kWeightBits);
      lineFactor[low] = factor[low] / 16, lineOffset[low] = (offset[low] - (7.0f - kLineBits)) / 16;  // of the code / 128
    }
#pragma unroll
    for (int n = 0; n < 16; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int low = e / 2;
        const float x = __int_as_float(s[n][e]);
        const float y = byLine(n / 4, n % 4 / 2 * 2 + low) ? __saturatef(fmaf(x, lineFactor[low], -lineOffset[low])) + 65536.0f  // rounds 128 x into the lowest bits
                                                           : exp2Fast(fmaf(x, factor[low], -offset[low]));
        s[n][e] = __float_as_int(y);
      }
  };
  const auto takeWeights = [&] {
#pragma unroll
    for (int step = 0; step < kKeys / 32; ++step)
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // rows g, g + 8, then the same of the other 16 keys
        const auto &first = s[4 * step + i / 2 * 2], &second = s[4 * step + i / 2 * 2 + 1];
        const int e = i % 2 * 2;
        const auto number = [](int32_t bits) { return __int_as_float(bits); };
        p[step][i] = byLine(step, i) ? packCodes(first[e], first[e + 1], second[e], second[e + 1])
                                     : packFp8(number(first[e]), number(first[e + 1]), number(second[e]), number(second[e + 1]));
      }
  };
  const auto addPart = [&] {
#pragma unroll
    for (int n = 0; n < 17; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) out[n][e] = fmaf(out[n][e], shrink[e / 2], part[n][e]);
  };

  int n = 0;
  for (int number = 0;; ++number) {
    const AttentionPart work = schedule.part(static_cast<int>(blockIdx.x) / kAttentionPair, number, rank);
    if (work.tiles == 0) return;
    const int head = work.at.head;
    const int row = group * 64 + warp * 16 + lane / 4, query = work.at.queryTile * kQueries + row;  // and eight further down
    const float* keyScales = o.kScale + head * (o.keyRows / kKeys) + work.firstTile;
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      rowScale[low] = query + 8 * low < a.queries ? o.qScale[head * a.queries + query + 8 * low] * (a.scale * kLog2e) : 1.0f;
      maximum[low] = kNoLogit;
    }
#pragma unroll
    for (int i = 0; i < 17; ++i) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0;
    tile = {};
    tile.at(a.runs, kKeys, work.firstTile);
    if (work.present == 0) tile.count = 0;

    waitFor(&barriers->queriesFull, number & 1);
    beginLogits();
    multiplyKeys(n);
    waitProducts<0>();
    pin(s);
    release(&barriers->keysEmpty[n % kStages]);
    if (work.tiles == 1) releaseQueries();
    softmax(keyScales[0], shrink);
    takeWeights();
    awaitValues(n);

    for (int i = 1; i < work.tiles; ++i, ++n) {
      const float keyScale = keyScales[i < work.present ? i : 0];
      float next[2];
      if (i < work.present) tile.next(a.runs, kKeys);
      else tile.count = 0;
      beginLogits();
      pin(part);
      multiplyKeys(n + 1);
      multiplyValues(n);
      waitProducts<1>();
      pin(s);
      release(&barriers->keysEmpty[(n + 1) % kStages]);
      if (i + 1 == work.tiles) releaseQueries();
      softmax(keyScale, next);
      pin(s);
      awaitValues(n + 1);  // here, because its branch keeps the compiler from waiting for the products before the exponentials
      waitProducts<0>();
      pin(part);
      pin(s);
      release(&barriers->valuesEmpty[n % kStages]);
      takeWeights();
      addPart();
      shrink[0] = next[0], shrink[1] = next[1];
    }
    multiplyValues(n);
    waitProducts<0>();
    pin(part);
    release(&barriers->valuesEmpty[n % kStages]);
    ++n;
    addPart();

    const float sum[2] = {__shfl_sync(0xffffffffu, out[16][0], lane / 4 * 4), __shfl_sync(0xffffffffu, out[16][2], lane / 4 * 4)};
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      const int column = lane % 4 * 2;
      if (work.slot >= 0) {
        const int64_t place = AttentionParts::row(work.slot, rank, row + 8 * low);
        if (lane % 4 == 0) parts.rows[place] = make_float2(maximum[low], sum[low]);
#pragma unroll
        for (int j = 0; j < 16; ++j) *reinterpret_cast<float2*>(parts.sums + place * kHead + column + j * 8) = make_float2(out[j][2 * low], out[j][2 * low + 1]);
        continue;
      }
      const float inverse = 1.0f / sum[low];
      if (query + 8 * low >= a.queries) continue;
      bf16* to = static_cast<bf16*>(a.out) + (static_cast<int64_t>(query + 8 * low) * a.heads + head) * kHead + column;
#pragma unroll
      for (int j = 0; j < 16; ++j) {
        float scale[2];
        load<2>(scale, o.vScale + head * kHead + column + j * 8);
        *reinterpret_cast<uint32_t*>(to + j * 8) = packBf16(out[j][2 * low] * inverse * scale[0], out[j][2 * low + 1] * inverse * scale[1]);
      }
    }
  }
}

#endif

__global__ void LONGLIVE_CLUSTER(kAttentionPair) __launch_bounds__(kAttentionThreads, 1)
eightBitHopperKernel(const __grid_constant__ Maps maps, const __grid_constant__ AttentionCall a, const __grid_constant__ EightBitOperands o,
                     const __grid_constant__ AttentionSchedule schedule, const __grid_constant__ AttentionParts parts) {
  followEarlier();
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  const Stages stages{dynamicShared()};
  if (threadIdx.x == 0) stages.barriers()->init();
  for (int i = static_cast<int>(threadIdx.x); i < kStages * kOnesBytes / 4; i += kAttentionThreads) {
    const int word = i % (kOnesBytes / 4);  // the first row is all ones: swizzling does not change it
    reinterpret_cast<uint32_t*>(stages.values(i / (kOnesBytes / 4)) + kTileBytes)[word] = word < 128 / 4 ? 0x38383838u : 0u;
  }
  publishBarriers();  // and the ones
  clusterSync();
  if (threadIdx.x >= 128 * kAttentionConsumers) {
    giveRegistersBack<24>();
    if (threadIdx.x == 128 * kAttentionConsumers) produce(maps, a, o, schedule, stages);
  } else {
    takeRegisters<240>();
    consume(a, o, schedule, parts, stages);
  }
  clusterSync();  // nobody's memory goes while the other one copies into it or arrives there
#endif
}

}  // namespace

bool hasEightBitHopper() { return true; }

void eightBitHopper(cudaStream_t stream, const AttentionCall& a, const EightBitOperands& o, const Workspace& workspace) {
  Maps maps;
  const auto encode = [](CUtensorMap* map, const void* data, int64_t rows, int64_t columns, int boxRows) {
    require(encodeTensorMap<2>(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, data, {columns, rows}, {128, boxRows}), "attention: no tensor map for 8-bit operands");
  };
  encode(&maps.q, o.q, a.heads * a.queries, kHead, 128);
  encode(&maps.k, o.k, a.heads * o.keyRows, kHead, 128 / kAttentionPair);
  encode(&maps.v, o.v, a.heads * kHead, o.keyRows, 128 / kAttentionPair);
  require(launchPairs<&eightBitHopperKernel>("attention: 8-bit, Hopper", stream, a, o.tiles, kShared, workspace, 1.0f, o.vScale, maps, a, o),
          "attention: no cluster runs");
}

}  // namespace longlive::cuda

#else

namespace longlive::cuda {

bool hasEightBitHopper() { return false; }
void eightBitHopper(cudaStream_t, const AttentionCall&, const EightBitOperands&, const Workspace&) {}

}  // namespace longlive::cuda

#endif

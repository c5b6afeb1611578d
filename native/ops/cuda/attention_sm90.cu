// Attention in bf16 for Hopper (sm_90a): heads of 128, wgmma and the bulk copy engine. The scheme is that of attention.cu.
//
//   block     two consumer warpgroups of 64 queries each, and a producer warp that only issues copies
//   copies    TMA boxes of 64 columns x 128 rows (128-byte swizzle); a tile of 128 keys is two boxes of K and two of V; two
//             stages of each, handed over by mbarriers (full: bytes arrived; empty: one arrival per consumer warp)
//   products  S = Q K^T: m64n128k16, both operands from shared memory, K-major;  O += P V: P from registers, V read along its
//             rows ("MN-major")
//   overlap   P_i V_i and Q K_{i+1}^T are queued together; while one warpgroup takes exponentials, the other multiplies
//
// A tile that a run of keys does not fill reads on into whatever follows in the buffer: those logits are masked, and the
// values, finite because the caches are zeroed when made, are multiplied by zero. Rows behind the buffer read as zeros.
//
// Bound: arithmetic, 4 queries keys 128 operations per head at the wgmma rate. Registers: S 64, O 64, P 32 per thread of 240.
#include "attention_device.cuh"

#if !defined(LONGLIVE_CUDA_EMULATED) && defined(LONGLIVE_SM90A)

#include <cuda.h>

#include "launch.h"
#include "ptx.cuh"
#include "sm90.cuh"

namespace longlive::cuda {
namespace {

constexpr int kHead = 128, kQueries = 128, kKeys = 128, kStages = 2;
constexpr int kConsumers = 2, kThreads = 128 * (kConsumers + 1);
constexpr int kBoxColumns = 64, kBoxBytes = 128 * kBoxColumns * 2;  // 128 rows
constexpr int kTileBytes = 2 * kBoxBytes;
constexpr int kBarriersAt = kTileBytes * (1 + 2 * kStages);
constexpr int kShared = kBarriersAt + 8 * (1 + 4 * kStages);

struct Maps { CUtensorMap q, k, v; };

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

#define LONGLIVE_D4(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define LONGLIVE_D64(d)                                                                                                  \
  LONGLIVE_D4(d, 0), LONGLIVE_D4(d, 1), LONGLIVE_D4(d, 2), LONGLIVE_D4(d, 3), LONGLIVE_D4(d, 4), LONGLIVE_D4(d, 5),      \
      LONGLIVE_D4(d, 6), LONGLIVE_D4(d, 7), LONGLIVE_D4(d, 8), LONGLIVE_D4(d, 9), LONGLIVE_D4(d, 10), LONGLIVE_D4(d, 11), \
      LONGLIVE_D4(d, 12), LONGLIVE_D4(d, 13), LONGLIVE_D4(d, 14), LONGLIVE_D4(d, 15)
#define LONGLIVE_REGISTERS64                                                                                            \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                              \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                                     \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                                     \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"

// d = a b^T (+ d if accumulate): a 64 x 16, b 128 x 16, both K-major in shared memory.
__device__ __forceinline__ void multiplyShared(float (&d)[16][4], uint64_t a, uint64_t b, int accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " LONGLIVE_REGISTERS64 ", %64, %65, p, 1, 1, 0, 0;\n"
      "}\n"
      : LONGLIVE_D64(d)
      : "l"(a), "l"(b), "r"(accumulate));
}
// d += a b: a 64 x 16 in registers, b 16 x 128 in shared memory, read along its rows.
__device__ __forceinline__ void multiplyRegisters(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " LONGLIVE_REGISTERS64 ", {%64, %65, %66, %67}, %68, p, 1, 1, 1;\n"
      "}\n"
      : LONGLIVE_D64(d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

struct Barriers {
  uint64_t queries, keysFull[kStages], keysEmpty[kStages], valuesFull[kStages], valuesEmpty[kStages];
};

__device__ __forceinline__ void produce(const Maps& maps, const AttentionCall& a, int tiles, int head, int firstQuery, unsigned char* queries,
                                        Barriers* barriers) {
  const auto load = [&](unsigned char* to, const CUtensorMap* map, int row, uint64_t* full) {
    expectBytes(full, kTileBytes);
    copyBox(to, map, head * kHead, row, full);
    copyBox(to + kBoxBytes, map, head * kHead + kBoxColumns, row, full);
  };
  load(queries, &maps.q, firstQuery, &barriers->queries);
  unsigned char* keys = queries + kTileBytes;
  unsigned char* values = keys + kStages * kTileBytes;
  KeyTiles tile;
  for (int i = 0; i < tiles; ++i) {
    tile.next(a.runs, kKeys);
    const int stage = i % kStages;
    const uint32_t parity = (i / kStages & 1) ^ 1;  // the first round finds everything empty
    waitFor(&barriers->keysEmpty[stage], parity);
    load(keys + stage * kTileBytes, &maps.k, static_cast<int>(tile.first), &barriers->keysFull[stage]);
    waitFor(&barriers->valuesEmpty[stage], parity);
    load(values + stage * kTileBytes, &maps.v, static_cast<int>(tile.first), &barriers->valuesFull[stage]);
  }
}

__device__ __forceinline__ void consume(const AttentionCall& a, int tiles, int head, int firstQuery, unsigned char* queries, Barriers* barriers) {
  const int group = static_cast<int>(threadIdx.x) / 128, warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  const unsigned char* rows = queries + group * 64 * 128;  // 64 rows of 128 bytes in each of the two boxes
  const unsigned char* keys = queries + kTileBytes;
  const unsigned char* values = keys + kStages * kTileBytes;
  const auto release = [&](uint64_t* b) {
    if (lane == 0) arrive(b);
  };
  float s[16][4] = {}, out[16][4] = {};
  const auto logits = [&](int i) {
    const unsigned char* tile = keys + i % kStages * kTileBytes;
    waitFor(&barriers->keysFull[i % kStages], i / kStages & 1);
    fence();
#pragma unroll
    for (int step = 0; step < kHead / 16; ++step) {
      const int at = step / 4 * kBoxBytes + step % 4 * 32;
      multiplyShared(s, describe(rows + at, 16), describe(tile + at, 16), step > 0);
    }
    commit();
  };

  const float scale2 = a.scale * kLog2e;
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  uint32_t p[kKeys / 16][4];
  KeyTiles tile;
  waitFor(&barriers->queries, 0);
  pin(s);
  logits(0);
  waitProducts<0>();
  pin(s);
  release(&barriers->keysEmpty[0]);

  for (int i = 0; i < tiles; ++i) {
    tile.next(a.runs, kKeys);
    if (tile.count < kKeys || tile.seen == a.keys) {
#pragma unroll
      for (int n = 0; n < 16; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int key = n * 8 + lane % 4 * 2 + e % 2;
          if (tile.index + key == a.keys - 1) s[n][e] += a.lastKeyLogBias / a.scale;
          if (key >= tile.count) s[n][e] = -INFINITY;
        }
    }
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      float highest = maximum[low];
#pragma unroll
      for (int n = 0; n < 16; ++n) highest = fmaxf(highest, fmaxf(s[n][2 * low], s[n][2 * low + 1]));
      highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
      const float shrink = exp2Fast((maximum[low] - highest) * scale2), offset = highest * scale2;
      maximum[low] = highest;
      float part = 0;
#pragma unroll
      for (int n = 0; n < 16; ++n)
#pragma unroll
        for (int e = 2 * low; e < 2 * low + 2; ++e) part += s[n][e] = exp2Fast(s[n][e] * scale2 - offset);
      sum[low] = sum[low] * shrink + part;
#pragma unroll
      for (int n = 0; n < 16; ++n) out[n][2 * low] *= shrink, out[n][2 * low + 1] *= shrink;
    }
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      const auto &first = s[2 * step], &second = s[2 * step + 1];
      p[step][0] = packBf16(first[0], first[1]), p[step][1] = packBf16(first[2], first[3]);
      p[step][2] = packBf16(second[0], second[1]), p[step][3] = packBf16(second[2], second[3]);
    }

    const int stage = i % kStages;
    waitFor(&barriers->valuesFull[stage], i / kStages & 1);
    pin(out);
    pin(s);
    fence();
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) multiplyRegisters(out, p[step], describe(values + stage * kTileBytes + step * 16 * 128, kBoxBytes));
    commit();
    if (i + 1 < tiles) {
      logits(i + 1);
      waitProducts<1>();
      release(&barriers->valuesEmpty[stage]);
      waitProducts<0>();
      release(&barriers->keysEmpty[(i + 1) % kStages]);
    } else {
      waitProducts<0>();
    }
    pin(out);
    pin(s);
  }

#pragma unroll
  for (int low = 0; low < 2; ++low) {
    float total = sum[low];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    const float inverse = 1.0f / total;
    const int64_t query = firstQuery + group * 64 + warp * 16 + low * 8 + lane / 4;
    if (query >= a.queries) continue;
    bf16* row = static_cast<bf16*>(a.out) + (query * a.heads + head) * kHead;
#pragma unroll
    for (int n = 0; n < 16; ++n) {
      *reinterpret_cast<uint32_t*>(row + n * 8 + lane % 4 * 2) = packBf16(out[n][2 * low] * inverse, out[n][2 * low + 1] * inverse);
    }
  }
}

#endif

__global__ void __launch_bounds__(kThreads, 1) hopperKernel(const __grid_constant__ Maps maps, const __grid_constant__ AttentionCall a, int tiles) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  unsigned char* queries = dynamicShared();
  Barriers* barriers = reinterpret_cast<Barriers*>(queries + kBarriersAt);
  const int head = static_cast<int>(blockIdx.y), firstQuery = static_cast<int>(blockIdx.x) * kQueries;
  if (threadIdx.x == 0) {
    initBarrier(&barriers->queries, 1);
    for (int i = 0; i < kStages; ++i) {
      initBarrier(&barriers->keysFull[i], 1);
      initBarrier(&barriers->valuesFull[i], 1);
      initBarrier(&barriers->keysEmpty[i], 4 * kConsumers);
      initBarrier(&barriers->valuesEmpty[i], 4 * kConsumers);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  __syncthreads();
  if (threadIdx.x >= 128 * kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x == 128 * kConsumers) produce(maps, a, tiles, head, firstQuery, queries, barriers);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    consume(a, tiles, head, firstQuery, queries, barriers);
  }
#endif
}

// A matrix [rows, columns] of bf16 in boxes of 128 rows x 64 columns.
bool encode(CUtensorMap* map, const void* data, int64_t rows, int64_t columns) {
  using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                              const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const Encode function = [] {
    void* f = nullptr;
    cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault, &found);
#else  // there until 13.0
    const cudaError_t status = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &f, cudaEnableDefault, &found);
#endif
    return status == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(f) : nullptr;
  }();
  const cuuint64_t size[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)}, stride[] = {static_cast<cuuint64_t>(columns) * 2};
  const cuuint32_t box[] = {kBoxColumns, 128}, step[] = {1, 1};
  return function && function(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(data), size, stride, box, step,
                              CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace

bool attentionHopper(cudaStream_t stream, const AttentionCall& a, int64_t rows) {
  if (a.headDim != kHead || a.bias || !(a.scale > 0)) return false;
  const int64_t width = static_cast<int64_t>(a.heads) * kHead;
  Maps maps;
  if (!encode(&maps.q, a.q, a.queries, width) || !encode(&maps.k, a.k, rows, width) || !encode(&maps.v, a.v, rows, width)) return false;
  const dim3 grid(static_cast<unsigned>(ceilDiv(a.queries, kQueries)), static_cast<unsigned>(a.heads));
  launch("attentionHopper", &hopperKernel, grid, kThreads, kShared, stream, maps, a, static_cast<int>(a.runs.tiles(kKeys)));
  return true;
}

}  // namespace longlive::cuda

#else

namespace longlive::cuda {

bool attentionHopper(cudaStream_t, const AttentionCall&, int64_t) { return false; }

}  // namespace longlive::cuda

#endif

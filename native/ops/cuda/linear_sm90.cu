// Linear layers in int8 for Hopper (sm_90a): wgmma and the bulk copy engine, with the epilogue of gemm.cu, whose results these are to the bit.
//
//   tile      128 rows x 256 columns: two consumer warpgroups of 64 rows each, and a producer warp that only issues copies and runs ahead
//             into the next tile
//   cluster   two blocks with the same columns: either copies half of their weights into both. L2 is asked for 32 KB per 128 bytes of depth,
//             whose products take 1024 cycles
//   stages    four of 128 bytes of depth (128-byte swizzle): 16 KB of rows and 32 KB of weights
//   products  m64n256k32, both operands K-major from shared memory; the stage before is waited for while this one runs
//   grid      persistent, rows fastest: the clusters at work share some columns' weights and all rows, which stay in L2
//   epilogue  four lanes exchange their sums until each has eight neighbours of a row: 16-byte accesses
//
// Bound: arithmetic, 2 rows columns depth operations at the wgmma rate of int8. Registers: 128 sums per thread of 232.
#include "gemm_device.cuh"

#ifdef LONGLIVE_SM90A

#include "launch.h"
#include "sm90.cuh"

namespace longlive::cuda {
namespace {

constexpr int kGroups = 2, kThreads = 128 * (kGroups + 1), kPair = 2;
constexpr int kRows = 64 * kGroups, kColumns = 256, kDepth = 128, kStages = 4;  // depth in bytes
constexpr int kRowBytes = kRows * kDepth, kStageBytes = kRowBytes + kColumns * kDepth;
constexpr int kBarriersAt = kStages * kStageBytes, kShared = kBarriersAt + 16 * kStages;
static_assert(kShared <= 227 * 1024);

struct Maps { CUtensorMap rows, weights; };

// Units of two tiles of rows, one below the other, by one of columns.
struct Units {
  int pairs, columns, chunks;  // of rows; tiles; of depth
  __host__ __device__ int count() const { return pairs * columns; }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Barriers { uint64_t full[kStages], empty[kStages]; };

__device__ __forceinline__ int firstUnit() { return static_cast<int>(blockIdx.x) / kPair; }
__device__ __forceinline__ int unitStep() { return static_cast<int>(gridDim.x) / kPair; }
__device__ __forceinline__ int rowOf(const Units& u, int unit, int rank) { return (unit % u.pairs * kPair + rank) * kRows; }
__device__ __forceinline__ int columnOf(const Units& u, int unit) { return unit / u.pairs * kColumns; }

__device__ __forceinline__ void produce(const Maps& maps, const Units& u, unsigned char* stages, Barriers* barriers) {
  constexpr int kHalf = kColumns / kPair;
  const int rank = clusterRank();
  Turn turn;
  for (int unit = firstUnit(); unit < u.count(); unit += unitStep()) {
    const int row = rowOf(u, unit, rank), column = columnOf(u, unit) + rank * kHalf;
    for (int chunk = 0; chunk < u.chunks; ++chunk) {
      unsigned char* stage = stages + turn.stage * kStageBytes;
      uint64_t* full = &barriers->full[turn.stage];
      waitFor(&barriers->empty[turn.stage], turn.parity ^ 1);  // the first round finds everything empty
      expectBytes(full, kStageBytes);
      copyBox(stage, &maps.rows, chunk * kDepth, row, full);
      copyBoxToBoth(stage + kRowBytes + rank * kHalf * kDepth, &maps.weights, chunk * kDepth, column, full);
      turn.next(kStages);
    }
  }
}

__device__ __forceinline__ void consume(const Units& u, int64_t rows, int64_t columns, const Output& output, unsigned char* stages, Barriers* barriers) {
  const int group = static_cast<int>(threadIdx.x) / 128, warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  const int rank = clusterRank();
  const auto release = [&](uint64_t* b) {
    if (b) arriveAtBoth(b, lane);
  };
  Turn turn;
  for (int unit = firstUnit(); unit < u.count(); unit += unitStep()) {
    int32_t sum[kColumns / 8][4];
    uint64_t* used = nullptr;  // by the products of the stage before
    for (int chunk = 0; chunk < u.chunks; ++chunk) {
      unsigned char* stage = stages + turn.stage * kStageBytes;
      const uint64_t from = describe(stage + group * 64 * kDepth, 16), weights = describe(stage + kRowBytes, 16);
      waitFor(&barriers->full[turn.stage], turn.parity);
      pin(sum);
      fence();
#pragma unroll
      for (int step = 0; step < kDepth / 32; ++step) multiplyInt8(sum, from + step * 2, weights + step * 2, chunk > 0 || step > 0);
      commit();
      waitProducts<1>();
      release(used);
      used = &barriers->empty[turn.stage];
      turn.next(kStages);
    }
    waitProducts<0>();
    pin(sum);
    release(used);

#pragma unroll
    for (int low = 0; low < 2; ++low) {
      const int64_t row = rowOf(u, unit, rank) + group * 64 + warp * 16 + low * 8 + lane / 4;
#pragma unroll
      for (int part = 0; part < kColumns / 32; ++part) {
        float x[8];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float v[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) v[j] = static_cast<float>(sum[part * 4 + j][2 * low + e]);
          exchange(v, lane % 4);
#pragma unroll
          for (int j = 0; j < 4; ++j) x[2 * j + e] = v[j];
        }
        const int64_t column = columnOf(u, unit) + (part * 4 + lane % 4) * 8;
        if (row < rows && column < columns) output.put8(row, row, column, columns, x);
      }
    }
  }
}

#endif

__global__ void LONGLIVE_CLUSTER(kPair) __launch_bounds__(kThreads, 1)
linearKernel(const __grid_constant__ Maps maps, const __grid_constant__ Units units, int64_t rows, int64_t columns, const __grid_constant__ Output output) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  unsigned char* stages = dynamicShared();
  Barriers* barriers = reinterpret_cast<Barriers*>(stages + kBarriersAt);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) initBarrier(&barriers->full[i], 1), initBarrier(&barriers->empty[i], 4 * kGroups * kPair);
    publishBarriers();
  }
  clusterSync();
  if (threadIdx.x >= 128 * kGroups) {
    giveRegistersBack<40>();
    if (threadIdx.x == 128 * kGroups) produce(maps, units, stages, barriers);
  } else {
    takeRegisters<232>();
    consume(units, rows, columns, output, stages, barriers);
  }
  clusterSync();  // nobody's memory goes while the other one copies into it or arrives there
#endif
}

}  // namespace

bool linearHopper(cudaStream_t stream, const LinearRows& in, const PackedMatrix& b, const Finish& f) {
  const int64_t rows = rowsOf(in.values), depth = in.values.shape[-1];
  if (b.operand != Operand::Int8 || b.columns % kColumns != 0) return false;
  Maps maps;
  if (!encodeTensorMap<2>(&maps.rows, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, in.values.data, {depth, rows}, {kDepth, kRows})) return false;
  if (!encodeTensorMap<2>(&maps.weights, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, b.data, {b.stride, b.columns}, {kDepth, kColumns / kPair})) return false;
  static const int clusters = activeClusters(&linearKernel, kPair, kThreads, kShared);
  if (clusters == 0) return false;
  const Units units{static_cast<int>(ceilDiv(rows, kPair * kRows)), static_cast<int>(b.columns / kColumns), static_cast<int>(ceilDiv(depth, kDepth))};
  launchClusters("linearHopper", &linearKernel, dim3(static_cast<unsigned>(kPair * std::min(units.count(), clusters))), kPair, kThreads, kShared, stream, maps,
                 units, rows, b.columns, outputOf(f, b, rows));
  return true;
}

}  // namespace longlive::cuda

#else

namespace longlive::cuda {

bool linearHopper(cudaStream_t, const LinearRows&, const PackedMatrix&, const Finish&) { return false; }

}  // namespace longlive::cuda

#endif

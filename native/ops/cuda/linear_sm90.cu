// Linear layers in int8 for Hopper (sm_90a): wgmma and the bulk copy engine, with the epilogue of gemm.cu, whose results these are to the bit.
//
//   tile      128 rows x 256 columns: two consumer warpgroups of 64 rows each, and a producer warp that only issues copies and runs ahead
//             into the next tile
//   cluster   two blocks with the same columns: either copies half of their weights into both. L2 is asked for 32 KB per 128 bytes of depth,
//             whose products take 1024 cycles
//   stages    four of 128 bytes of depth (128-byte swizzle): 16 KB of rows and 32 KB of weights
//   products  m64n256k32, both operands K-major from shared memory; the stage before is waited for while this one runs
//   grid      persistent, rows fastest: the clusters at work share some columns' weights and all rows, which stay in L2
//   epilogue  on the lanes' own sums, whose pairs of bf16 four lanes then exchange for eight neighbours of a row: 16-byte accesses. Nothing it
//             reads is waited for there: a tile's columns (scales, bias, gate) are asked for before its products and lie in shared memory,
//             residuals are asked for three parts ahead
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

struct Barriers { uint64_t full[kStages], empty[kStages], tile; };

// What the columns of a tile have in common.
struct Tile { float scale[kColumns], bias[kColumns], gate[kColumns]; };

constexpr int kBarriersAt = kStages * kStageBytes, kTilesAt = kBarriersAt + static_cast<int>(sizeof(Barriers)), kShared = kTilesAt + 2 * static_cast<int>(sizeof(Tile));
static_assert(kShared <= 227 * 1024);

struct Maps { CUtensorMap rows, weights; };

// Units of two tiles of rows, one below the other, by one of columns.
struct Units {
  int pairs, columns, chunks;  // of rows; tiles; of depth
  __host__ __device__ int count() const { return pairs * columns; }
};

// What becomes of the sums, in bf16 with the roundings of spec 2.8: scales and bias, times the gate, plus the residual.
struct Finishing {
  bf16* out;             // [rows, columns]
  const bf16 *residual,  // [rows, columns]; may be `out`
      *gate;             // [columns]
  const float *bias,     // [columns] or null
      *rowScale, *columnScale;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kParts = kColumns / 32, kAhead = 3;  // an epilogue's steps, of 32 columns each; how far ahead residuals are asked for

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

// Sums of two neighbours of a row, scaled, into bf16.
template <bool Gated, bool Added>
__device__ __forceinline__ uint32_t finished(const int32_t* sum, float rowScale, const Tile& tile, int column, uint32_t residual) {
  const auto pair = [column](const float (&of)[kColumns]) { return *reinterpret_cast<const float2*>(of + column); };
  const float2 scale = pair(tile.scale), bias = pair(tile.bias);
  uint32_t x = packBf16(static_cast<float>(sum[0]) * (rowScale * scale.x) + bias.x, static_cast<float>(sum[1]) * (rowScale * scale.y) + bias.y);
  if constexpr (Gated) {
    const float2 gate = pair(tile.gate);
    x = packBf16(lowFloat(x) * gate.x, highFloat(x) * gate.y);
  }
  if constexpr (Added) x = packBf16(lowFloat(x) + lowFloat(residual), highFloat(x) + highFloat(residual));
  return x;
}

template <bool Gated, bool Added>
__device__ __forceinline__ void consume(const Units& u, int64_t rows, int64_t columns, const Finishing& f, unsigned char* stages, Barriers* barriers,
                                        Tile* tiles) {
  const int group = static_cast<int>(threadIdx.x) / 128, warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  const int rank = clusterRank();
  const auto release = [&](uint64_t* b) {
    if (b) arriveAtBoth(b, lane);
  };
  Turn turn;
  uint32_t odd = 0;  // of the unit: tiles have two places, so that nobody waits for others to have read theirs
  for (int unit = firstUnit(); unit < u.count(); unit += unitStep(), odd ^= 1) {
    // Asked for now, there when the products are done.
    const int64_t mine = columnOf(u, unit) + static_cast<int>(threadIdx.x);
    const float columnScale = f.columnScale[mine], bias = f.bias ? f.bias[mine] : 0.0f, gate = Gated ? toFloat(f.gate[mine]) : 0.0f;
    int64_t row[2];
    float rowScale[2];
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      row[low] = rowOf(u, unit, rank) + group * 64 + warp * 16 + low * 8 + lane / 4;
      rowScale[low] = row[low] < rows ? f.rowScale[row[low]] : 0.0f;
    }

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

    const int64_t column = columnOf(u, unit) + lane % 4 * 8;  // of this lane's eight neighbours in the first part
    uint32_t residual[kParts][2][4];
    const auto ask = [&](int part) {
#pragma unroll
      for (int low = 0; low < 2; ++low) {
        if (part >= kParts) continue;
        const bf16* from = f.residual + row[low] * columns + column + part * 32;
        const uint4 four = row[low] < rows ? *reinterpret_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
        residual[part][low][0] = four.x, residual[part][low][1] = four.y, residual[part][low][2] = four.z, residual[part][low][3] = four.w;
      }
    };
#pragma unroll
    for (int part = 0; part < kAhead; ++part)
      if (Added) ask(part);
    Tile& tile = tiles[odd];
    tile.scale[threadIdx.x] = columnScale, tile.bias[threadIdx.x] = bias;
    if (Gated) tile.gate[threadIdx.x] = gate;
    __syncwarp();
    if (lane == 0) arrive(&barriers->tile);
    waitProducts<0>();
    pin(sum);
    release(used);
    waitFor(&barriers->tile, odd);

#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      if (Added) ask(part + kAhead);
#pragma unroll
      for (int low = 0; low < 2; ++low) {
        uint32_t x[4];
        if (Added) exchange(residual[part][low], lane % 4);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          x[j] = finished<Gated, Added>(&sum[part * 4 + j][2 * low], rowScale[low], tile, (part * 4 + j) * 8 + lane % 4 * 2, residual[part][low][j]);
        exchange(x, lane % 4);
        if (row[low] < rows) *reinterpret_cast<uint4*>(f.out + row[low] * columns + column + part * 32) = make_uint4(x[0], x[1], x[2], x[3]);
      }
    }
  }
}

#endif

template <bool Gated, bool Added>
__global__ void LONGLIVE_CLUSTER(kPair) __launch_bounds__(kThreads, 1)
linearKernel(const __grid_constant__ Maps maps, const __grid_constant__ Units units, int64_t rows, int64_t columns, const __grid_constant__ Finishing finishing) {
  followEarlier();
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  unsigned char* stages = dynamicShared();
  Barriers* barriers = reinterpret_cast<Barriers*>(stages + kBarriersAt);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) initBarrier(&barriers->full[i], 1), initBarrier(&barriers->empty[i], 4 * kGroups * kPair);
    initBarrier(&barriers->tile, 4 * kGroups);
    publishBarriers();
  }
  clusterSync();
  if (threadIdx.x >= 128 * kGroups) {
    giveRegistersBack<40>();
    if (threadIdx.x == 128 * kGroups) produce(maps, units, stages, barriers);
  } else {
    takeRegisters<232>();
    consume<Gated, Added>(units, rows, columns, finishing, stages, barriers, reinterpret_cast<Tile*>(stages + kTilesAt));
  }
  clusterSync();  // nobody's memory goes while the other one copies into it or arrives there
#endif
}

template <bool Gated, bool Added> bool run(cudaStream_t stream, const Maps& maps, const Units& units, int64_t rows, int64_t columns, const Finishing& finishing) {
  static const int clusters = activeClusters(&linearKernel<Gated, Added>, kPair, kThreads, kShared);
  if (clusters == 0) return false;
  launchClusters("linearHopper", &linearKernel<Gated, Added>, dim3(static_cast<unsigned>(kPair * std::min(units.count(), clusters))), kPair, kThreads,
                 kShared, stream, maps, units, rows, columns, finishing);
  return true;
}

// What the epilogue above can do: bf16, nothing or a residual, and with one a gate that is the same for all rows.
bool suits(const Finish& f, int64_t columns) {
  const auto bf16OrNone = [](const Tensor& t) { return !t || t.dtype == DType::BF16; };
  return f.out.dtype == DType::BF16 && bf16OrNone(f.residual) && bf16OrNone(f.gate) && !f.multiply && f.activation == Activation::None &&
         (!f.gate || (f.residual && f.gate.elements() == columns));
}

}  // namespace

bool linearHopper(cudaStream_t stream, const LinearRows& in, const PackedMatrix& b, const Finish& f) {
  const int64_t rows = rowsOf(in.values), depth = in.values.shape[-1];
  if (b.operand != Operand::Int8 || b.columns % kColumns != 0 || !suits(f, b.columns)) return false;
  Maps maps;
  if (!encodeTensorMap<2>(&maps.rows, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, in.values.data, {depth, rows}, {kDepth, kRows})) return false;
  if (!encodeTensorMap<2>(&maps.weights, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, b.data, {b.stride, b.columns}, {kDepth, kColumns / kPair})) return false;
  const Units units{static_cast<int>(ceilDiv(rows, kPair * kRows)), static_cast<int>(b.columns / kColumns), static_cast<int>(ceilDiv(depth, kDepth))};
  const Finishing finishing{f.out.as<bf16>(), f.residual.as<bf16>(), f.gate.as<bf16>(), b.bias, f.rowScale, b.columnScale};
  if (f.gate) return run<true, true>(stream, maps, units, rows, b.columns, finishing);
  if (f.residual) return run<false, true>(stream, maps, units, rows, b.columns, finishing);
  return run<false, false>(stream, maps, units, rows, b.columns, finishing);
}

}  // namespace longlive::cuda

#else

namespace longlive::cuda {

bool linearHopper(cudaStream_t, const LinearRows&, const PackedMatrix&, const Finish&) { return false; }

}  // namespace longlive::cuda

#endif

// Linear layers in int8 for Hopper (sm_90a): wgmma and the bulk copy engine, with the epilogue of gemm.cu, whose results these are to the bit.
//
//   tile      128 rows x 256 or 224 columns: two consumer warpgroups of 64 rows each, and a producer warp that only issues copies and runs
//             ahead into the next tile
//   cluster   two blocks with the same columns: either copies half of their weights into both. L2 is asked for 32 KB per 128 bytes of depth,
//             whose products take 1024 cycles. An odd last tile of rows is for both blocks, with columns of its own for each
//   stages    four of 128 bytes of depth (128-byte swizzle): 16 KB of rows and 32 or 28 KB of weights
//   products  m64n256k32 or m64n224k32, both operands K-major from shared memory; the stage before is waited for while this one runs
//   grid      persistent, by the plan of linear_plan.h, whose tiles are as wide as makes the last turn fullest; all rows stay in L2
//   epilogue  on the lanes' own sums, whose pairs of bf16 four lanes then exchange for eight neighbours of a row: 16-byte accesses. Nothing it
//             reads is waited for there: a tile's columns (scales, bias, gate) are asked for before its products and lie in shared memory,
//             residuals are asked for three parts ahead
//
// Bound: arithmetic, 2 rows columns depth operations at the wgmma rate of int8. Registers: 128 sums per thread of 232.
#include "gemm_device.cuh"

#ifdef LONGLIVE_SM90A

#include "launch.h"
#include "linear_plan.h"
#include "sm90.cuh"

namespace longlive::cuda {
namespace {

constexpr int kGroups = 2, kThreads = 128 * (kGroups + 1), kPair = kLinearPair;
constexpr int kRows = kLinearRows, kDepth = kLinearDepth, kStages = 4;
constexpr int kRowBytes = kRows * kDepth;
static_assert(kRows == 64 * kGroups);

struct Barriers { uint64_t full[kStages], empty[kStages], tile; };

// What the columns of a tile have in common.
template <int Columns> struct Tile { float scale[Columns], bias[Columns], gate[Columns]; };

// Of shared memory, with tiles of so many columns.
template <int Columns> struct Layout {
  static constexpr int kHalf = Columns / kPair;  // columns of a box of weights
  static constexpr int kStageBytes = kRowBytes + Columns * kDepth;
  static constexpr int kBarriersAt = kStages * kStageBytes, kTilesAt = kBarriersAt + static_cast<int>(sizeof(Barriers));
  static constexpr int kShared = kTilesAt + 2 * static_cast<int>(sizeof(Tile<Columns>));
  static_assert(kHalf * kDepth % 1024 == 0, "the swizzle begins where a box does");
  static_assert(kShared <= 227 * 1024 && Columns <= 128 * kGroups);
};

struct Maps { CUtensorMap rows, weights; };

// What becomes of the sums, in bf16 with the roundings of spec 2.8: scales and bias, times the gate, plus the residual.
struct Finishing {
  bf16* out;             // [rows, columns]
  const bf16 *residual,  // [rows, columns]; may be `out`
      *gate;             // [columns]
  const float *bias,     // [columns] or null
      *rowScale, *columnScale;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kPart = 32, kAhead = 3;  // columns of a step of the epilogue; how many steps ahead residuals are asked for

__device__ __forceinline__ int firstUnit() { return static_cast<int>(blockIdx.x) / kPair; }
__device__ __forceinline__ int unitStep() { return static_cast<int>(gridDim.x) / kPair; }

template <int Columns> __device__ __forceinline__ void produce(const Maps& maps, const LinearUnits& units, unsigned char* stages, Barriers* barriers) {
  using L = Layout<Columns>;
  const int rank = clusterRank();
  Turn turn;
  for (int unit = firstUnit(); unit < units.count(); unit += unitStep()) {
    const LinearTile at = units.tile(unit, rank);
    const bool shared = unit < units.shared();
#pragma unroll 1
    for (int chunk = 0; chunk < units.chunks; ++chunk) {
      unsigned char* stage = stages + turn.stage * L::kStageBytes;
      uint64_t* full = &barriers->full[turn.stage];
      waitFor(&barriers->empty[turn.stage], turn.parity ^ 1);  // the first round finds everything empty
      expectBytes(full, L::kStageBytes);
      copyBox(stage, &maps.rows, chunk * kDepth, at.row * kRows, full);
      for (int half = 0; half < kPair; ++half) {
        copyHalf(shared, half, rank, stage + kRowBytes + half * L::kHalf * kDepth, &maps.weights, chunk * kDepth, at.column * Columns + half * L::kHalf, full);
      }
      turn.next(kStages);
    }
  }
}

// Sums of two neighbours of a row, scaled, into bf16.
template <int Columns, bool Gated, bool Added>
__device__ __forceinline__ uint32_t finished(const int32_t* sum, float rowScale, const Tile<Columns>& tile, int column, uint32_t residual) {
  const auto pair = [column](const float (&of)[Columns]) { return *reinterpret_cast<const float2*>(of + column); };
  const float2 scale = pair(tile.scale), bias = pair(tile.bias);
  uint32_t x = packBf16(static_cast<float>(sum[0]) * (rowScale * scale.x) + bias.x, static_cast<float>(sum[1]) * (rowScale * scale.y) + bias.y);
  if constexpr (Gated) {
    const float2 gate = pair(tile.gate);
    x = packBf16(lowFloat(x) * gate.x, highFloat(x) * gate.y);
  }
  if constexpr (Added) x = packBf16(lowFloat(x) + lowFloat(residual), highFloat(x) + highFloat(residual));
  return x;
}

template <int Columns, bool Gated, bool Added>
__device__ __forceinline__ void consume(const LinearUnits& units, int64_t rows, int64_t columns, const Finishing& f, unsigned char* stages, Barriers* barriers,
                                        Tile<Columns>* tiles) {
  constexpr int kParts = Columns / kPart;
  const int group = static_cast<int>(threadIdx.x) / 128, warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  const int rank = clusterRank();
  const auto release = [&](uint64_t* b) {
    if (b) arriveAtBoth(b, lane);
  };
  Turn turn;
  uint32_t odd = 0;  // of the unit: tiles have two places, so that nobody waits for others to have read theirs
  for (int unit = firstUnit(); unit < units.count(); unit += unitStep(), odd ^= 1) {
    const LinearTile at = units.tile(unit, rank);
    const int64_t firstColumn = static_cast<int64_t>(at.column) * Columns;
    // Asked for now, there when the products are done.
    const int64_t mine = firstColumn + static_cast<int>(threadIdx.x);
    const bool has = static_cast<int>(threadIdx.x) < Columns && mine < columns;
    const float columnScale = has ? f.columnScale[mine] : 0.0f, bias = has && f.bias ? f.bias[mine] : 0.0f, gate = Gated && has ? toFloat(f.gate[mine]) : 0.0f;
    int64_t row[2];
    int parts[2];  // that lie in the matrix, which may end in this tile or before it
    float rowScale[2];
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      row[low] = static_cast<int64_t>(at.row) * kRows + group * 64 + warp * 16 + low * 8 + lane / 4;
      parts[low] = row[low] < rows ? static_cast<int>((columns - firstColumn) / kPart) : 0;
      rowScale[low] = row[low] < rows ? f.rowScale[row[low]] : 0.0f;
    }

    int32_t sum[Columns / 8][4];
    uint64_t* used = nullptr;  // by the products of the stage before
    for (int chunk = 0; chunk < units.chunks; ++chunk) {
      unsigned char* stage = stages + turn.stage * Layout<Columns>::kStageBytes;
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

    const int64_t column = firstColumn + lane % 4 * 8;  // of this lane's eight neighbours in the first part
    uint32_t residual[kParts][2][4];
    const auto ask = [&](int part) {
#pragma unroll
      for (int low = 0; low < 2; ++low) {
        if (part >= kParts) continue;
        const bf16* from = f.residual + row[low] * columns + column + part * kPart;
        const uint4 four = part < parts[low] ? *reinterpret_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
        residual[part][low][0] = four.x, residual[part][low][1] = four.y, residual[part][low][2] = four.z, residual[part][low][3] = four.w;
      }
    };
#pragma unroll
    for (int part = 0; part < kAhead; ++part)
      if (Added) ask(part);
    Tile<Columns>& tile = tiles[odd];
    if (has) {
      tile.scale[threadIdx.x] = columnScale, tile.bias[threadIdx.x] = bias;
      if (Gated) tile.gate[threadIdx.x] = gate;
    }
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
          x[j] = finished<Columns, Gated, Added>(&sum[part * 4 + j][2 * low], rowScale[low], tile, (part * 4 + j) * 8 + lane % 4 * 2, residual[part][low][j]);
        exchange(x, lane % 4);
        if (part < parts[low]) *reinterpret_cast<uint4*>(f.out + row[low] * columns + column + part * kPart) = make_uint4(x[0], x[1], x[2], x[3]);
      }
    }
  }
}

#endif

template <int Columns, bool Gated, bool Added>
__global__ void LONGLIVE_CLUSTER(kPair) __launch_bounds__(kThreads, 1)
linearKernel(const __grid_constant__ Maps maps, const __grid_constant__ LinearUnits units, int64_t rows, int64_t columns, const __grid_constant__ Finishing finishing) {
  followEarlier();
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  unsigned char* stages = dynamicShared();
  Barriers* barriers = reinterpret_cast<Barriers*>(stages + Layout<Columns>::kBarriersAt);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) initBarrier(&barriers->full[i], 1), initBarrier(&barriers->empty[i], 4 * kGroups * kPair);
    initBarrier(&barriers->tile, 4 * kGroups);
    publishBarriers();
  }
  clusterSync();
  if (threadIdx.x >= 128 * kGroups) {
    giveRegistersBack<40>();
    if (threadIdx.x == 128 * kGroups) produce<Columns>(maps, units, stages, barriers);
  } else {
    takeRegisters<232>();
    consume<Columns, Gated, Added>(units, rows, columns, finishing, stages, barriers, reinterpret_cast<Tile<Columns>*>(stages + Layout<Columns>::kTilesAt));
  }
  clusterSync();  // nobody's memory goes while the other one copies into it or arrives there
#endif
}

// How many clusters of a kernel run at the same time does not depend on what its epilogue does.
template <int Columns> int clusters() {
  static PerDevice active;
  return active([](int) { return activeClusters(&linearKernel<Columns, true, true>, kPair, kThreads, Layout<Columns>::kShared); });
}

struct Call {
  const void* rows;
  const PackedMatrix& b;
  int64_t count, depth;  // of rows
  Finishing finishing;
};

template <int Columns, bool Gated, bool Added> bool run(cudaStream_t stream, const Call& c) {
  Maps maps;
  if (!encodeTensorMap<2>(&maps.rows, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, c.rows, {c.depth, c.count}, {kDepth, kRows})) return false;
  if (!encodeTensorMap<2>(&maps.weights, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, c.b.data, {c.b.stride, c.b.columns}, {kDepth, Layout<Columns>::kHalf})) return false;
  const LinearUnits units = LinearUnits::of(c.count, c.b.columns, c.depth, Columns);
  launchClusters("linearHopper", &linearKernel<Columns, Gated, Added>, dim3(static_cast<unsigned>(kPair * std::min(units.count(), clusters<Columns>()))), kPair,
                 kThreads, Layout<Columns>::kShared, stream, maps, units, c.count, c.b.columns, c.finishing);
  return true;
}

template <int Columns> bool run(cudaStream_t stream, const Call& c) {
  if (c.finishing.gate) return run<Columns, true, true>(stream, c);
  if (c.finishing.residual) return run<Columns, false, true>(stream, c);
  return run<Columns, false, false>(stream, c);
}

// What the epilogue above can do: bf16, nothing or a residual, and with one a gate that is the same for all rows.
bool suits(const Finish& f, int64_t columns) {
  const auto bf16OrNone = [](const Tensor& t) { return !t || t.dtype == DType::BF16; };
  return f.out.dtype == DType::BF16 && bf16OrNone(f.residual) && bf16OrNone(f.gate) && !f.multiply && f.activation == Activation::None &&
         (!f.gate || (f.residual && f.gate.elements() == columns));
}

}  // namespace

bool linearHopper(cudaStream_t stream, const LinearRows& in, const PackedMatrix& b, const Finish& f) {
  if (b.operand != Operand::Int8 || b.columns % 256 != 0 || !suits(f, b.columns)) return false;
  const int active = clusters<256>();
  if (active == 0) return false;
  const Call call{in.values.data, b, rowsOf(in.values), in.values.shape[-1],
                  {f.out.as<bf16>(), f.residual.as<bf16>(), f.gate.as<bf16>(), b.bias, f.rowScale, b.columnScale}};
  return linearWidth(call.count, b.columns, active) == 256 ? run<256>(stream, call) : run<224>(stream, call);
}

}  // namespace longlive::cuda

#else

namespace longlive::cuda {

bool linearHopper(cudaStream_t, const LinearRows&, const PackedMatrix&, const Finish&) { return false; }

}  // namespace longlive::cuda

#endif

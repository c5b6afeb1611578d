// Convolution in bf16 for Hopper (sm_90a): an implicit matrix product with wgmma and the bulk copy engine. conv_plan.h says how
// the work is cut.
//
//   block     persistent, one per multiprocessor: two consumer warpgroups, each mTiles x 64 pixels by all columns of the tile, and
//             a producer warp that only issues copies and runs ahead into the next tile
//   boxes     the pixels of a tile with their margin, one frame and chunk of channels (a 4-D tensor map; a second one for the
//             history): every tap in space multiplies the same box, read from another row on. What is outside is zero: the padding
//   weights   nTile rows of a tap's chunk, a stage per tap
//   products  m64 x nTile x 16, both operands K-major; the tap before is waited for while this one runs
//   epilogue  four lanes exchange their sums until each has eight neighbours of a pixel: 16-byte accesses. Nothing hides it, so the
//             producer has residuals brought into the L2 cache when it begins a tile
//
// Bound: arithmetic, 2 pixels columns depth operations at the wgmma rate. L2: with a box for 9 taps and 512 pixels x 96 columns (256 x
// 192) a multiprocessor takes 14 (14) bytes per cycle of some 24. Registers: up to 192 sums per thread of 240.
#include "conv_plan.h"
#include "gemm_device.cuh"

#ifdef LONGLIVE_SM90A

#include "launch.h"
#include "sm90.cuh"

namespace longlive::cuda {
namespace {

constexpr int kThreads = 128 * (kConvGroups + 1);

struct Maps { CUtensorMap in, history, weights; };

// An activation is None or Relu here.
struct ConvOutput {
  AnyPointer out, residual;
  const float* bias;
  bool relu, reluAfterResidual;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Barriers {
  uint64_t boxFull[kConvStages], boxEmpty[kConvStages], weightsFull[kConvStages], weightsEmpty[kConvStages];
};

struct Stages {
  unsigned char *boxes, *weights;
  int boxStride, weightStride;
};

// The residuals of a tile's pixels, with all their channels: other tiles of these pixels are at work at the same time.
__device__ __forceinline__ void prefetchResidual(const ConvOutput& o, const Gather& g, const ConvPlan& p, const ConvTile& t) {
  if (!o.residual.data || g.scale != 1 || p.columns % 8) return;
  const int pixel = p.columns * (o.residual.isBf16 ? 2 : 4), pixels = min(ConvPlan::tileWidth(p.shape), g.gridWidth - t.x);
#pragma unroll 1
  for (int y = t.y; y < min(t.y + ConvPlan::tileHeight(), g.gridHeight); ++y) {
    const int64_t first = (static_cast<int64_t>(t.frame) * g.gridHeight + y) * g.gridWidth + t.x;
    prefetchL2(static_cast<const char*>(o.residual.data) + first * pixel, pixels * pixel);
  }
}

__device__ __forceinline__ void produce(const Maps& maps, const Gather& g, const ConvPlan& p, const ConvOutput& output, const Stages& s,
                                        Barriers* barriers) {
  const int boxSize = boxBytes(p, g), weightSize = weightBytes(p.shape);
  Turn box, weight;
  for (int i = static_cast<int>(blockIdx.x); i < p.tiles(); i += static_cast<int>(gridDim.x)) {
    const ConvTile t = p.tile(i);
    prefetchResidual(output, g, p, t);
    for (int dt = firstTap(g, t.frame); dt < g.kt; ++dt) {
      const int seen = frameSeen(g, t.frame, dt), frame = seen < 0 ? seen + g.olderFrames : seen;
      for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const int channel = chunk * p.shape.chunk;
        waitFor(&barriers->boxEmpty[box.stage], box.parity ^ 1);  // the first round finds everything empty
        expectBytes(&barriers->boxFull[box.stage], boxSize);
        copyBox(s.boxes + box.stage * s.boxStride, seen < 0 ? &maps.history : &maps.in, channel, boxX(g, t), boxY(g, t), frame,
                &barriers->boxFull[box.stage]);
        box.next(p.boxStages);
        for (int dy = 0; dy < g.kh; ++dy)
          for (int dx = 0; dx < g.kw; ++dx) {
            waitFor(&barriers->weightsEmpty[weight.stage], weight.parity ^ 1);
            expectBytes(&barriers->weightsFull[weight.stage], weightSize);
            copyBox(s.weights + weight.stage * s.weightStride, &maps.weights, depthOf(g, dt, dy, dx, channel), t.phase * p.columns + t.column,
                    &barriers->weightsFull[weight.stage]);
            weight.next(p.weightStages);
          }
      }
    }
  }
}

template <int V> __device__ __forceinline__ void finish(const ConvOutput& o, float (&x)[V], const float (&rest)[V], int column) {
  const auto stored = [&o](float a) { return o.out.isBf16 ? rounded<bf16>(a) : a; };
  float bias[V] = {};
  if (o.bias) load<V>(bias, o.bias + column);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    x[i] = stored(x[i] + bias[i]);
    if (o.relu) x[i] = fmaxf(x[i], 0.0f);
    x[i] += rest[i];
    if (o.reluAfterResidual) x[i] = fmaxf(stored(x[i]), 0.0f);
  }
}

// A row's sums, `at` its place in `out`. All lanes of a warp come here; `inside`: this one's pixel is one.
template <int N>
__device__ __forceinline__ void put(const ConvOutput& o, const float (&sum)[N / 8][4], int low, int64_t at, int column, int columns, bool inside) {
  const int lane = static_cast<int>(threadIdx.x) % 4;
  if constexpr (N == 8) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int c = column + 2 * lane + e;
      if (!inside || c >= columns) continue;
      float x[1] = {sum[0][2 * low + e]};
      const float rest[1] = {o.residual.data ? o.residual.get(at + c) : 0.0f};
      finish<1>(o, x, rest, c);
      o.out.set(at + c, x[0]);
    }
  } else {
    constexpr int kParts = N / 32, kBatch = kParts % 3 ? kParts : 3;  // residuals that are loaded before any is needed
#pragma unroll
    for (int first = 0; first < kParts; first += kBatch) {
      float rest[kBatch][8] = {};
      if (o.residual.data && inside) {
#pragma unroll
        for (int b = 0; b < kBatch; ++b) o.residual.get8(rest[b], at + column + ((first + b) * 4 + lane) * 8);
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        float x[8];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float v[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) v[j] = sum[(first + b) * 4 + j][2 * low + e];
          exchange(v, lane);
#pragma unroll
          for (int j = 0; j < 4; ++j) x[2 * j + e] = v[j];
        }
        const int c = column + ((first + b) * 4 + lane) * 8;
        finish<8>(o, x, rest[b], c);
        if (inside) o.out.set8(at + c, x);
      }
    }
  }
}

template <int RowBytes, int N, int M>
__device__ __forceinline__ void consume(const Gather& g, const ConvPlan& p, const ConvOutput& output, const Stages& s, Barriers* barriers) {
  const int group = static_cast<int>(threadIdx.x) / 128, warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  const int width = boxWidth(p, g);
  const auto release = [&](uint64_t* b) {
    if (b && lane == 0) arrive(b);
  };
  Turn box, weight;
  for (int i = static_cast<int>(blockIdx.x); i < p.tiles(); i += static_cast<int>(gridDim.x)) {
    const ConvTile t = p.tile(i);
    float sum[M][N / 8][4] = {};
    uint64_t *usedBox = nullptr, *usedWeights = nullptr;  // by the products of the tap before
    int accumulate = 0;
    for (int slices = (g.kt - firstTap(g, t.frame)) * p.chunks; slices > 0; --slices) {
      waitFor(&barriers->boxFull[box.stage], box.parity);
      const uint64_t rows = describe<RowBytes>(sharedAddress(s.boxes) + box.stage * s.boxStride, width * RowBytes);
      for (int dy = 0; dy < g.kh; ++dy)
        for (int dx = 0; dx < g.kw; ++dx) {
          const uint64_t from = rows + static_cast<uint64_t>(blockRow(width, group, 0, dy, dx) * RowBytes >> 4);
          const uint64_t columns = describe<RowBytes>(sharedAddress(s.weights) + weight.stage * s.weightStride, 8 * RowBytes);
          waitFor(&barriers->weightsFull[weight.stage], weight.parity);
#pragma unroll
          for (int m = 0; m < M; ++m) pin(sum[m]);
          fence();
#pragma unroll
          for (int step = 0; step < RowBytes / 32; ++step) {
#pragma unroll
            for (int m = 0; m < M; ++m) multiply<N>(sum[m], from + (m * kConvBlock * RowBytes + step * 32) / 16, columns + step * 2, accumulate || step > 0);
          }
          commit();
          accumulate = 1;
          waitProducts<1>();
          release(usedWeights), release(usedBox);
          usedWeights = &barriers->weightsEmpty[weight.stage];
          usedBox = dy + 1 == g.kh && dx + 1 == g.kw ? &barriers->boxEmpty[box.stage] : nullptr;
          weight.next(p.weightStages);
        }
      box.next(p.boxStages);
    }
    waitProducts<0>();
    release(usedWeights), release(usedBox);
#pragma unroll
    for (int m = 0; m < M; ++m) pin(sum[m]);

#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
      for (int low = 0; low < 2; ++low) {
        const int y = t.y + group * kConvBlock + 2 * warp + low, x = t.x + m * kConvBlock + lane / 4;
        const int64_t row = (static_cast<int64_t>(t.frame) * g.scale * g.gridHeight + g.scale * y + t.phase / 2) * g.scale * g.gridWidth +
                            g.scale * x + t.phase % 2;
        put<N>(output, sum[m], low, row * p.columns, t.column, p.columns, y < g.gridHeight && x < g.gridWidth);
      }
  }
}

#endif

template <int Chunk, int N, int M>
__global__ void __launch_bounds__(kThreads, 1)
convKernel(const __grid_constant__ Maps maps, const __grid_constant__ Gather g, const __grid_constant__ ConvPlan p, const __grid_constant__ ConvOutput output) {
  followEarlier();
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  Stages s;
  s.boxStride = stageBytes(boxBytes(p, g)), s.weightStride = stageBytes(weightBytes(p.shape));
  s.boxes = dynamicShared(), s.weights = s.boxes + p.boxStages * s.boxStride;
  Barriers* barriers = reinterpret_cast<Barriers*>(s.boxes + kConvShared);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kConvStages; ++i) {
      initBarrier(&barriers->boxFull[i], 1), initBarrier(&barriers->weightsFull[i], 1);
      initBarrier(&barriers->boxEmpty[i], 4 * kConvGroups), initBarrier(&barriers->weightsEmpty[i], 4 * kConvGroups);
    }
    publishBarriers();
  }
  __syncthreads();
  if (threadIdx.x >= 128 * kConvGroups) {
    giveRegistersBack<24>();
    if (threadIdx.x == 128 * kConvGroups) produce(maps, g, p, output, s, barriers);
  } else {
    takeRegisters<240>();
    consume<2 * Chunk, N, M>(g, p, output, s, barriers);
  }
#endif
}

template <int Chunk, int N, int M>
void run(cudaStream_t stream, const Maps& maps, const Gather& g, const ConvPlan& p, const ConvOutput& output, int multiprocessors) {
  launch("convHopper", &convKernel<Chunk, N, M>, dim3(static_cast<unsigned>(std::min(p.tiles(), multiprocessors))), kThreads, kConvShared + 1024, stream,
         maps, g, p, output);
}

}  // namespace

bool convHopper(cudaStream_t stream, const Gather& g, const PackedMatrix& b, const Finish& f, int multiprocessors) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  const bool relu = f.activation == Activation::Relu;
  ConvPlan p;
  if (b.operand != Operand::Bf16 || (f.activation != Activation::None && !relu)) return false;
  if (!aligned(g.in) || !aligned(g.history) || !aligned(f.residual.data) || !planConv(p, g, b.columns, multiprocessors)) return false;

  const ConvShape& s = p.shape;
  const CUtensorMapSwizzle swizzle = s.chunk == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B;
  const auto volume = [&](CUtensorMap* map, const void* data, int64_t frames) {
    return encodeTensorMap<4>(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, data, {g.channels, g.width, g.height, frames}, {s.chunk, boxWidth(p, g), boxHeight(g), 1}, swizzle);
  };
  // The frames that output frames see begin at strideT f - firstFrame and end kt later.
  const int64_t frames = (g.frames - 1) * g.strideT - g.firstFrame + g.kt;
  Maps maps;
  if (!volume(&maps.in, g.in, frames)) return false;
  if (g.olderFrames == 0) maps.history = maps.in;  // never asked for
  else if (!volume(&maps.history, g.history, g.olderFrames)) return false;
  if (!encodeTensorMap<2>(&maps.weights, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, b.data, {b.stride, p.phases * b.columns}, {s.chunk, s.nTile}, swizzle)) return false;

  const auto any = [](const Tensor& t) { return AnyPointer{t.data, t.dtype == DType::BF16}; };
  const ConvOutput output{any(f.out), any(f.residual), b.bias, relu && !f.activationAfterResidual, relu && f.activationAfterResidual};
  const auto is = [&](int chunk, int n, int m) { return s.chunk == chunk && s.nTile == n && s.mTiles == m; };
  if (is(64, 192, 2)) run<64, 192, 2>(stream, maps, g, p, output, multiprocessors);
  else if (is(64, 192, 1)) run<64, 192, 1>(stream, maps, g, p, output, multiprocessors);
  else if (is(64, 128, 2)) run<64, 128, 2>(stream, maps, g, p, output, multiprocessors);
  else if (is(64, 128, 1)) run<64, 128, 1>(stream, maps, g, p, output, multiprocessors);
  else if (is(64, 96, 4)) run<64, 96, 4>(stream, maps, g, p, output, multiprocessors);
  else if (is(64, 64, 4)) run<64, 64, 4>(stream, maps, g, p, output, multiprocessors);
  else if (is(64, 8, 4)) run<64, 8, 4>(stream, maps, g, p, output, multiprocessors);
  else if (is(32, 96, 4)) run<32, 96, 4>(stream, maps, g, p, output, multiprocessors);
  else if (is(32, 8, 4)) run<32, 8, 4>(stream, maps, g, p, output, multiprocessors);
  else return false;
  return true;
}

}  // namespace longlive::cuda

#else

namespace longlive::cuda {

bool convHopper(cudaStream_t, const Gather&, const PackedMatrix&, const Finish&, int) { return false; }

}  // namespace longlive::cuda

#endif

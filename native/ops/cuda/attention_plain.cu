// Attention in F32 arithmetic: the oracle, and what heads of unusual width use.
//
//   out = softmax(scale q K^T + bias) V, online over tiles of 32 keys
//
// A warp per query, eight queries per block. A tile of K, then of V, lies in shared memory as F32; lane i computes the logit of
// key i, then every lane owns each 32nd channel of the output. Bound: shared memory, two words read per multiply-add.
#include "attention_device.cuh"
#include "launch.h"

namespace longlive::cuda {
namespace {

constexpr int kKeys = 32, kWarps = 8, kThreads = 32 * kWarps;
constexpr int kMaxHeadDim = 512, kPerLane = kMaxHeadDim / 32;

// One more than a row, so that a column of the tile falls into all banks.
__host__ __device__ constexpr int strideOf(int headDim) { return headDim + 1; }

template <class T>
__global__ void __launch_bounds__(kThreads) plainKernel(const __grid_constant__ AttentionCall a) {
  followEarlier();
  float* shared = reinterpret_cast<float*>(dynamicShared());
  const int d = a.headDim, stride = strideOf(d);
  float* rows = shared;
  float* queries = rows + kKeys * stride;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32, head = static_cast<int>(blockIdx.y);
  const int64_t width = static_cast<int64_t>(a.heads) * d, query = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  const bool inside = query < a.queries;
  float* q = queries + warp * d;
  for (int i = lane; i < d; i += 32) q[i] = inside ? toFloat(static_cast<const T*>(a.q)[query * width + head * d + i]) * a.scale : 0.0f;

  float out[kPerLane] = {}, maximum = -INFINITY, sum = 0;
  KeyTiles tile;
  const auto fill = [&](const void* from) {
    __syncthreads();  // everybody is done with what is there
    for (int i = thread; i < kKeys * d; i += kThreads) {
      const int row = i / d, c = i % d;
      rows[row * stride + c] = row < tile.count ? toFloat(static_cast<const T*>(from)[(tile.first + row) * width + head * d + c]) : 0.0f;
    }
    __syncthreads();
  };
  for (int64_t done = 0; done < a.keys; done += tile.count) {
    tile.next(a.runs, kKeys);
    fill(a.k);
    float logit = 0;
    for (int c = 0; c < d; ++c) logit += q[c] * rows[lane * stride + c];
    const int64_t index = tile.index + lane;
    if (a.bias && inside && lane < tile.count) logit += a.biasOf(head, query, index);
    if (index == a.keys - 1) logit += a.lastKeyLogBias;
    if (lane >= tile.count) logit = -INFINITY;
    const float highest = fmaxf(maximum, warpMax(logit)), shrink = expf(maximum - highest), p = expf(logit - highest);
    maximum = highest;
    sum = sum * shrink + warpSum(p);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) out[i] *= shrink;
    fill(a.v);
    for (int j = 0; j < kKeys; ++j) {
      const float weight = __shfl_sync(0xffffffffu, p, j);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i)
        if (lane + 32 * i < d) out[i] += weight * rows[j * stride + lane + 32 * i];
    }
  }
  if (!inside) return;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    if (lane + 32 * i < d) static_cast<T*>(a.out)[query * width + head * d + lane + 32 * i] = fromFloat<T>(out[i] / sum);
}

}  // namespace

void attentionPlain(cudaStream_t stream, const AttentionCall& a, DType type) {
  require(a.headDim <= kMaxHeadDim, "attention: heads may be 512 wide at most");
  const size_t shared = (kKeys * strideOf(a.headDim) + kWarps * a.headDim) * sizeof(float);
  const dim3 grid(static_cast<unsigned>(ceilDiv(a.queries, kWarps)), static_cast<unsigned>(a.heads));
  if (type == DType::BF16) launch("attentionPlain", &plainKernel<bf16>, grid, kThreads, shared, stream, a);
  else launch("attentionPlain", &plainKernel<float>, grid, kThreads, shared, stream, a);
}

}  // namespace longlive::cuda

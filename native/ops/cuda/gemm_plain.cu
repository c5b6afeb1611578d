// The matrix product and convolution of gemm.h in F32 arithmetic: the oracle, and what volumes with awkward channel counts
// use. 64 x 64 tiles, 16 deep, 4 x 4 sums per thread.
#include "gemm_device.cuh"
#include "launch.h"

namespace longlive::cuda {
namespace {

constexpr int kTile = 64, kDepth = 16, kThreads = 256, kPer = 4;

template <class In>
__global__ void __launch_bounds__(kThreads)
plainKernel(const __grid_constant__ Gather g, const float* b, int64_t stride, int64_t columns, const __grid_constant__ Output output) {
  followEarlier();
  __shared__ float a[kDepth][kTile + 1], w[kDepth][kTile + 1];
  const int64_t firstRow = static_cast<int64_t>(blockIdx.x) * kTile, firstColumn = static_cast<int64_t>(blockIdx.y) * kTile;
  const int phase = static_cast<int>(blockIdx.z), thread = static_cast<int>(threadIdx.x);
  const int k = thread % kDepth, line = thread / kDepth;      // loading: element k of lines line + 16 i
  const int row = thread / 16 * kPer, column = thread % 16 * kPer;  // computing
  b += phase * columns * stride;

  Window window[kPer];
#pragma unroll
  for (int i = 0; i < kPer; ++i) window[i] = windowOf(g, firstRow + line + i * 16, phase);
  float sum[kPer][kPer] = {};
  const int64_t depth = g.depth();
  for (int64_t first = 0; first < depth; first += kDepth) {
    const int64_t at = first + k;
    const int tap = static_cast<int>(at / g.channels), c = static_cast<int>(at % g.channels);
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      const In* pixel = at < depth ? pixelAt<In>(g, window[i], tap / g.kw / g.kh, tap / g.kw % g.kh, tap % g.kw) : nullptr;
      a[k][line + i * 16] = pixel ? toFloat(pixel[c]) : 0.0f;
      const int64_t n = firstColumn + line + i * 16;
      w[k][line + i * 16] = at < depth && n < columns ? b[n * stride + at] : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d)
#pragma unroll
      for (int i = 0; i < kPer; ++i)
#pragma unroll
        for (int j = 0; j < kPer; ++j) sum[i][j] += a[d][row + i] * w[d][column + j];
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
    const int64_t m = firstRow + row + i;
    if (m >= g.rows()) continue;
#pragma unroll
    for (int j = 0; j < kPer; ++j) output.put(m, outputRow(g, m, phase), firstColumn + column + j, columns, sum[i][j]);
  }
}

}  // namespace

void multiplyPlain(cudaStream_t stream, const Gather& g, DType inType, const PackedMatrix& b, const Output& output) {
  const dim3 grid(static_cast<unsigned>(ceilDiv(g.rows(), kTile)), static_cast<unsigned>(ceilDiv(b.columns, kTile)), g.scale == 2 ? 4u : 1u);
  const auto run = [&](auto element) {
    using In = decltype(element);
    launch("gemmPlain", &plainKernel<In>, grid, kThreads, 0, stream, g, static_cast<const float*>(b.data), b.stride, b.columns, output);
  };
  require(inType == DType::F32 || inType == DType::BF16, "gemm: F32 or BF16 expected");
  if (inType == DType::BF16) run(bf16{});
  else run(float{});
}

}  // namespace longlive::cuda

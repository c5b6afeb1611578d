// Sampling operations on latents. They are a few hundred kilobytes: no bound matters, bit equality with the CPU backend does.
// This file must be compiled without contraction into fused multiply-adds (-fmad=false), as noise.h says.
#include "device.cuh"
#include "flat.cuh"
#include "kernels.h"
#include "launch.h"
#include "noise.h"

namespace longlive::cuda {
namespace {

constexpr int kThreads = 128;

AnyPointer any(const Tensor& t) {
  require(isFloat(t), "sampling: element type must be F32 or BF16");
  return {t.data, t.dtype == DType::BF16};
}

__global__ void gaussianKernel(AnyPointer out, int64_t n, uint64_t seed, uint32_t block, uint32_t step) {
  followEarlier();
  const int64_t i = globalThread();
  if (4 * i >= n) return;
  float four[4];
  noise::four(four, static_cast<uint64_t>(i), seed, block, step);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (4 * i + j < n) out.set(4 * i + j, four[j]);
  }
}

// Token (f, y, x), element 4c + 2ky + kx = latents[f, c, 2y + ky, 2x + kx]; spec 2.2. One thread per element of `tokens`.
__global__ void patchifyKernel(AnyPointer tokens, AnyPointer latents, int64_t n, int channels, int h, int w) {
  followEarlier();
  const int64_t i = globalThread();
  if (i >= n) return;
  const int element = static_cast<int>(i % (4 * channels));
  const int64_t token = i / (4 * channels);
  const int c = element / 4, ky = element / 2 % 2, kx = element % 2;
  const int x = static_cast<int>(token % (w / 2)), y = static_cast<int>(token / (w / 2) % (h / 2));
  const int64_t f = token / (w / 2) / (h / 2);
  tokens.set(i, latents.get(((f * channels + c) * h + 2 * y + ky) * w + 2 * x + kx));
}

// The head's rows are ordered (ky, kx, c), spec 2.2; the reference subtracts in float64, spec 5.2. One thread per latent element.
__global__ void flowToX0Kernel(AnyPointer x0, AnyPointer xt, AnyPointer flow, int64_t n, int channels, int h, int w, float sigma) {
  followEarlier();
  const int64_t i = globalThread();
  if (i >= n) return;
  const int x = static_cast<int>(i % w), y = static_cast<int>(i / w % h), c = static_cast<int>(i / w / h % channels);
  const int64_t f = i / w / h / channels, token = (f * (h / 2) + y / 2) * (w / 2) + x / 2;
  const float v = flow.get((token * 4 + y % 2 * 2 + x % 2) * channels + c);
  x0.set(i, static_cast<float>(xt.get(i) - static_cast<double>(sigma) * v));
}

template <class T>
__global__ void mixKernel(T* out, const T* a, const T* b, int64_t n, float s) {
  followEarlier();
  const int64_t i = globalThread();
  if (i >= n) return;
  const auto rounded = [](float x) { return toFloat(fromFloat<T>(x)); };
  out[i] = fromFloat<T>(rounded((1.0f - s) * toFloat(a[i])) + rounded(s * toFloat(b[i])));
}

}  // namespace

void patchify(cudaStream_t stream, const Tensor& tokens, const Tensor& latents) {
  const int64_t n = latents.elements(), h = latents.shape[2], w = latents.shape[3];
  require(h % 2 == 0 && w % 2 == 0 && tokens.elements() == n, "patchify: wrong shapes");
  launch("patchify", &patchifyKernel, flatGrid<kThreads>(n), kThreads, 0, stream, any(tokens), any(latents), n, static_cast<int>(latents.shape[1]),
         static_cast<int>(h), static_cast<int>(w));
}

void flowToX0(cudaStream_t stream, const Tensor& x0, const Tensor& xt, const Tensor& flow, float sigma) {
  const int64_t n = xt.elements();
  require(flow.elements() == n && x0.elements() == n, "flowToX0: wrong shapes");
  launch("flowToX0", &flowToX0Kernel, flatGrid<kThreads>(n), kThreads, 0, stream, any(x0), any(xt), any(flow), n, static_cast<int>(xt.shape[1]),
         static_cast<int>(xt.shape[2]), static_cast<int>(xt.shape[3]), sigma);
}

void mix(cudaStream_t stream, const Tensor& out, const Tensor& a, const Tensor& b, float s) {
  const int64_t n = a.elements();
  require(out.elements() == n && b.elements() == n && isFloat(a) && out.dtype == a.dtype && b.dtype == a.dtype, "mix: shapes or types differ");
  if (a.dtype == DType::F32) launch("mix", &mixKernel<float>, flatGrid<kThreads>(n), kThreads, 0, stream, out.as<float>(), a.as<float>(), b.as<float>(), n, s);
  else launch("mix", &mixKernel<bf16>, flatGrid<kThreads>(n), kThreads, 0, stream, out.as<bf16>(), a.as<bf16>(), b.as<bf16>(), n, s);
}

void gaussian(cudaStream_t stream, const Tensor& out, uint64_t seed, uint32_t block, uint32_t step) {
  const int64_t n = out.elements();
  launch("gaussian", &gaussianKernel, flatGrid<kThreads>(ceilDiv(n, 4)), kThreads, 0, stream, any(out), n, seed, block, step);
}

}  // namespace longlive::cuda

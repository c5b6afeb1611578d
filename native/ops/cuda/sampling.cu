// Sampling operations on latents. They are a few hundred kilobytes: no bound matters, bit equality with the CPU backend does.
// This file must be compiled without contraction into fused multiply-adds (-fmad=false).
//
// Noise: element i of a call is a pure function of (seed, block, step, i). Philox4x32-10 on the counter (i / 4, block, step)
// under the key `seed`, then Box-Muller with the series of ops/cpu/elementwise.cpp in IEEE double arithmetic, so that both
// backends draw the same bits.
#include "device.cuh"
#include "kernels.h"
#include "launch.h"

namespace longlive::cuda {
namespace {

constexpr int kThreads = 128;

dim3 gridFor(int64_t items) { return dim3(static_cast<unsigned>(ceilDiv(items, kThreads))); }
__device__ __forceinline__ int64_t globalThread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

AnyPointer any(const Tensor& t) {
  require(isFloat(t), "sampling: element type must be F32 or BF16");
  return {t.data, t.dtype == DType::BF16};
}

struct Counter { uint32_t x[4]; };

__device__ Counter philox(Counter c, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p = 0xD2511F53ull * c.x[0], q = 0xCD9E8D57ull * c.x[2];
    c = {{static_cast<uint32_t>(q >> 32) ^ c.x[1] ^ key0, static_cast<uint32_t>(q), static_cast<uint32_t>(p >> 32) ^ c.x[3] ^ key1,
          static_cast<uint32_t>(p)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

__device__ double logarithm(double x) {
  uint64_t bits = static_cast<uint64_t>(__double_as_longlong(x));
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = __longlong_as_double(static_cast<long long>((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull));
  if (m > 1.4142135623730951) m *= 0.5, ++exponent;
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double series = 0.0;
  for (int k = 19; k >= 1; k -= 2) series = series * z + 1.0 / k;
  return exponent * 0.6931471805599453 + 2.0 * s * series;
}

__device__ void circle(double t, double& cosine, double& sine) {
  const int quarter = static_cast<int>(t * 4.0 + 0.5);
  const double x = (t - quarter * 0.25) * 6.283185307179586, z = x * x;
  double c = 1.0, s = 1.0;
  for (int k = 15; k >= 1; k -= 2) {
    c = 1.0 - c * z / (k * (k + 1));
    s = 1.0 - s * z / ((k + 1) * (k + 2));
  }
  s *= x;
  switch (quarter & 3) {
    case 0: cosine = c, sine = s; break;
    case 1: cosine = -s, sine = c; break;
    case 2: cosine = -c, sine = -s; break;
    default: cosine = s, sine = -c; break;
  }
}

__global__ void gaussianKernel(AnyPointer out, int64_t n, uint64_t seed, uint32_t block, uint32_t step) {
  followEarlier();
  const int64_t i = globalThread();
  if (4 * i >= n) return;
  const Counter random = philox({{static_cast<uint32_t>(i), static_cast<uint32_t>(static_cast<uint64_t>(i) >> 32), block, step}},
                                static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  for (int pair = 0; pair < 2; ++pair) {
    const double u1 = (random.x[2 * pair] + 1.0) * 0x1p-32, u2 = random.x[2 * pair + 1] * 0x1p-32;
    const double radius = sqrt(-2.0 * logarithm(u1));
    double cosine, sine;
    circle(u2, cosine, sine);
    if (4 * i + 2 * pair < n) out.set(4 * i + 2 * pair, static_cast<float>(radius * cosine));
    if (4 * i + 2 * pair + 1 < n) out.set(4 * i + 2 * pair + 1, static_cast<float>(radius * sine));
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

__global__ void addNoiseKernel(AnyPointer out, AnyPointer x0, AnyPointer noise, int64_t n, float sigma) {
  followEarlier();
  const int64_t i = globalThread();
  if (i < n) out.set(i, (1.0f - sigma) * x0.get(i) + sigma * noise.get(i));
}

}  // namespace

void patchify(cudaStream_t stream, const Tensor& tokens, const Tensor& latents) {
  const int64_t n = latents.elements(), h = latents.shape[2], w = latents.shape[3];
  require(h % 2 == 0 && w % 2 == 0 && tokens.elements() == n, "patchify: wrong shapes");
  launch("patchify", &patchifyKernel, gridFor(n), kThreads, 0, stream, any(tokens), any(latents), n, static_cast<int>(latents.shape[1]),
         static_cast<int>(h), static_cast<int>(w));
}

void flowToX0(cudaStream_t stream, const Tensor& x0, const Tensor& xt, const Tensor& flow, float sigma) {
  const int64_t n = xt.elements();
  require(flow.elements() == n && x0.elements() == n, "flowToX0: wrong shapes");
  launch("flowToX0", &flowToX0Kernel, gridFor(n), kThreads, 0, stream, any(x0), any(xt), any(flow), n, static_cast<int>(xt.shape[1]),
         static_cast<int>(xt.shape[2]), static_cast<int>(xt.shape[3]), sigma);
}

void addNoise(cudaStream_t stream, const Tensor& out, const Tensor& x0, const Tensor& noise, float sigma) {
  const int64_t n = x0.elements();
  require(out.elements() == n && noise.elements() == n, "addNoise: wrong shapes");
  launch("addNoise", &addNoiseKernel, gridFor(n), kThreads, 0, stream, any(out), any(x0), any(noise), n, sigma);
}

void gaussian(cudaStream_t stream, const Tensor& out, uint64_t seed, uint32_t block, uint32_t step) {
  const int64_t n = out.elements();
  launch("gaussian", &gaussianKernel, gridFor(ceilDiv(n, 4)), kThreads, 0, stream, any(out), n, seed, block, step);
}

}  // namespace longlive::cuda

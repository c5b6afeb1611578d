// Layout and picture operations on volumes. Bound: memory; each element is read and written once. Layout changes are made
// only where the model enters and leaves channels-last, on tensors of a megabyte, so plain indexing is enough.
#include "device.cuh"
#include "flat.cuh"
#include "kernels.h"
#include "launch.h"

namespace longlive::cuda {
namespace {

AnyPointer any(const Tensor& t) {
  require(isFloat(t), "volume: element type must be F32 or BF16");
  return {t.data, t.dtype == DType::BF16};
}

// [T, H, W, factor C] -> [factor T, H, W, C] in units of Word; `words` = words per C channels.
template <class Word>
__global__ void splitTimeKernel(Word* out, const Word* in, int64_t n, int64_t pixels, int64_t words, int factor) {
  followEarlier();
  const int64_t i = globalThread();
  if (i >= n) return;
  const int64_t w = i % words, p = i / words % pixels, f = i / words / pixels;
  out[i] = in[((f / factor * pixels + p) * factor + f % factor) * words + w];
}

// One thread per element of the channels-last side, [frames, pixels, channels].
template <bool ToLast>
__global__ void transposeKernel(AnyPointer out, AnyPointer in, const float* mul, const float* add, int64_t n, int64_t pixels, int channels) {
  followEarlier();
  const int64_t packed = globalThread();
  if (packed >= n) return;
  const int c = static_cast<int>(packed % channels);
  const int64_t p = packed / channels % pixels, t = packed / channels / pixels, planar = (t * channels + c) * pixels + p;
  const float x = in.get(ToLast ? planar : packed);
  out.set(ToLast ? packed : planar, x * (mul ? mul[c] : 1.0f) + (add ? add[c] : 0.0f));
}

__global__ void tanhClampKernel(AnyPointer out, AnyPointer in, int64_t n) {
  followEarlier();
  const int64_t i = globalThread();
  if (i < n) out.set(i, kTanhClamp * tanhf(in.get(i) / kTanhClamp));
}

__device__ __forceinline__ uint8_t toByte(float x, bool unit) {
  const float v = unit ? x : x * 0.5f + 0.5f;
  if (!(v > 0.0f)) return 0;  // and NaN
  return static_cast<uint8_t>(fminf(v, 1.0f) * 255.0f);
}

// Four bytes per thread: `n` is a multiple of 4, or the last thread stops early.
__global__ void toRgb8Kernel(uint8_t* out, AnyPointer in, int64_t n, bool unit) {
  followEarlier();
  const int64_t i = globalThread() * 4;
  if (i + 4 <= n) {
    uchar4 v;
    v.x = toByte(in.get(i), unit), v.y = toByte(in.get(i + 1), unit), v.z = toByte(in.get(i + 2), unit), v.w = toByte(in.get(i + 3), unit);
    *reinterpret_cast<uchar4*>(out + i) = v;
  } else {
    for (int64_t j = i; j < n; ++j) out[j] = toByte(in.get(j), unit);
  }
}

__device__ __forceinline__ uint8_t luma(const uint8_t* p) {
  return static_cast<uint8_t>((11966 * p[0] + 40254 * p[1] + 4064 * p[2] + (16 << 16) + 32768) >> 16);
}

// BT.709, limited range, the integer arithmetic of ops/cpu/sampling.cpp. One thread per 2 x 2 pixels.
__global__ void toI420Kernel(uint8_t* out, const uint8_t* rgb, int64_t n, int h, int w) {
  followEarlier();
  const int64_t i = globalThread();
  if (i >= n) return;
  const int x = static_cast<int>(i % (w / 2)), row = static_cast<int>(i / (w / 2) % (h / 2));
  const int64_t f = i / (w / 2) / (h / 2);
  const uint8_t* top = rgb + ((f * h + 2 * row) * w + 2 * x) * 3;
  const uint8_t* bottom = top + static_cast<int64_t>(w) * 3;
  uint8_t* plane = out + f * h * w * 3 / 2;
  uint8_t* y = plane + static_cast<int64_t>(2 * row) * w + 2 * x;
  y[0] = luma(top), y[1] = luma(top + 3), y[w] = luma(bottom), y[w + 1] = luma(bottom + 3);
  const int r = top[0] + top[3] + bottom[0] + bottom[3];
  const int g = top[1] + top[4] + bottom[1] + bottom[4];
  const int b = top[2] + top[5] + bottom[2] + bottom[5];
  constexpr int half = 1 << 17, middle = 128 << 18;
  uint8_t* u = plane + static_cast<int64_t>(h) * w + static_cast<int64_t>(row) * (w / 2) + x;
  u[0] = static_cast<uint8_t>((-6596 * r - 22189 * g + 28785 * b + middle + half) >> 18);
  u[static_cast<int64_t>(h) * w / 4] = static_cast<uint8_t>((28785 * r - 26145 * g - 2640 * b + middle + half) >> 18);
}

template <bool ToLast>
void transpose(cudaStream_t stream, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add) {
  const Tensor& planar = ToLast ? in : out;
  const Tensor& packed = ToLast ? out : in;
  require(planar.shape.rank == 4 && packed.shape.rank == 4, "volumes have four axes");
  const int64_t frames = planar.shape[0], channels = planar.shape[1];
  require(packed.shape == Shape({frames, planar.shape[2], planar.shape[3], channels}), "volume: shapes are not transposes");
  require((!mul || (mul.dtype == DType::F32 && mul.elements() == channels)) && (!add || (add.dtype == DType::F32 && add.elements() == channels)),
          "volume: one factor per channel");
  const int64_t n = planar.elements();
  launch("transpose", &transposeKernel<ToLast>, flatGrid(n), kFlatThreads, 0, stream, any(out), any(in), mul.as<float>(), add.as<float>(), n,
         planar.shape[2] * planar.shape[3], static_cast<int>(channels));
}

}  // namespace

void splitTime(cudaStream_t stream, const Tensor& out, const Tensor& in, int factor) {
  const int64_t frames = in.shape[0], pixels = in.shape[1] * in.shape[2], channels = out.shape[3];
  require(out.dtype == in.dtype, "splitTime: types differ");
  require(factor > 0 && in.shape[3] == factor * channels && out.shape == Shape({factor * frames, in.shape[1], in.shape[2], channels}),
          "splitTime: shapes do not fit");
  const int64_t bytes = channels * static_cast<int64_t>(sizeOf(in.dtype));
  const auto run = [&](auto word) {
    using Word = decltype(word);
    const int64_t words = bytes / static_cast<int64_t>(sizeof(Word)), n = frames * factor * pixels * words;
    launch("splitTime", &splitTimeKernel<Word>, flatGrid(n), kFlatThreads, 0, stream, out.as<Word>(), in.as<Word>(), n, pixels, words, factor);
  };
  if (bytes % 16 == 0) run(uint4{});
  else if (bytes % 4 == 0) run(uint32_t{});
  else run(uint8_t{});
}

void permute(cudaStream_t stream, ChannelOrder order, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add) {
  if (order == ChannelOrder::Last) transpose<true>(stream, out, in, mul, add);
  else transpose<false>(stream, out, in, mul, add);
}

void tanhClamp(cudaStream_t stream, const Tensor& out, const Tensor& in) {
  require(out.elements() == in.elements(), "tanhClamp: shapes differ");
  launch("tanhClamp", &tanhClampKernel, flatGrid(in.elements()), kFlatThreads, 0, stream, any(out), any(in), in.elements());
}

void toRgb8(cudaStream_t stream, const Tensor& out, const Tensor& in, bool unit) {
  const int64_t n = in.elements();
  require(out.dtype == DType::U8 && out.elements() == n, "toRgb8: out must be bytes of the same shape");
  launch("toRgb8", &toRgb8Kernel, flatGrid(ceilDiv(n, 4)), kFlatThreads, 0, stream, out.as<uint8_t>(), any(in), n, unit);
}

void toI420(cudaStream_t stream, const Tensor& out, const Tensor& rgb) {
  const int64_t frames = rgb.shape[0], h = rgb.shape[1], w = rgb.shape[2], n = frames * (h / 2) * (w / 2);
  require(h % 2 == 0 && w % 2 == 0 && out.elements() == frames * h * w * 3 / 2, "toI420: odd or wrong sizes");
  launch("toI420", &toI420Kernel, flatGrid(n), kFlatThreads, 0, stream, out.as<uint8_t>(), rgb.as<uint8_t>(), n, static_cast<int>(h),
         static_cast<int>(w));
}

}  // namespace longlive::cuda

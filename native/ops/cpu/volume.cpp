#include "volume.h"

#include <cmath>
#include <cstring>

#include "conv_kernels.h"
#include "conv_scalar.h"
#include "require.h"

namespace longlive::cpu {
namespace {

constexpr int64_t kVolumeGrain = 1 << 12;  // elements per chunk at least, so that small tensors stay on one thread

void requireFloat(const Tensor& t) {
  require(t.dtype == DType::F32 || t.dtype == DType::BF16, "volume: element type must be F32 or BF16");
}

const ConvKernels& normKernels(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::Avx512Bf16) return avx512Bf16ConvKernels();
  if (isa >= Isa::Avx512) return avx512ConvKernels();
  if (isa >= Isa::Avx2) return avx2ConvKernels();
#elif defined(__aarch64__)
  if (isa >= Isa::Neon) return neonConvKernels();
#endif
  return portableConvKernels();
}

// A strided walk: for every frame and channel of a channels-first volume, its plane.
struct Planes {
  int64_t frames, channels, pixels;
};

// out[outIndex] = in[inIndex] * mul[c] + add[c] for every element of one frame.
template <bool ChannelsLast>
void transposeFrame(const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add, const Planes& s, int64_t t) {
  for (int64_t c = 0; c < s.channels; ++c) {
    const float m = mul ? mul.as<float>()[c] : 1.0f, b = add ? add.as<float>()[c] : 0.0f;
    for (int64_t p = 0; p < s.pixels; ++p) {
      const int64_t planar = (t * s.channels + c) * s.pixels + p, packed = (t * s.pixels + p) * s.channels + c;
      const float x = loadFloat(in.data, in.dtype, ChannelsLast ? planar : packed);
      storeFloat(out.data, out.dtype, ChannelsLast ? packed : planar, x * m + b);
    }
  }
}

template <bool ChannelsLast>
void transpose(Context& c, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add) {
  requireFloat(in), requireFloat(out);
  const Tensor& planar = ChannelsLast ? in : out;
  const Tensor& packed = ChannelsLast ? out : in;
  require(planar.shape.rank == 4 && packed.shape.rank == 4, "volume: volumes have four axes");
  const Planes s{planar.shape[0], planar.shape[1], planar.shape[2] * planar.shape[3]};
  require(packed.shape == Shape({s.frames, planar.shape[2], planar.shape[3], s.channels}), "volume: shapes are not transposes");
  require((!mul || mul.elements() == s.channels) && (!add || add.elements() == s.channels), "volume: one factor per channel");
  c.pool.parallelFor(0, s.frames, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) transposeFrame<ChannelsLast>(out, in, mul, add, s, t);
  });
}

uint8_t toByte(float x, bool unit) {
  const float v = unit ? x : x * 0.5f + 0.5f;
  if (!(v > 0.0f)) return 0;
  return static_cast<uint8_t>(std::min(v, 1.0f) * 255.0f);
}

}  // namespace

void channelNorm(Context& c, const Tensor& out, const Tensor& in, const Tensor& gamma, Activation a, ByteCode code) {
  requireFloat(in);
  require(out.dtype == DType::F32 || out.dtype == DType::BF16 || (out.dtype == DType::U8 && code.step > 0), "volume: norm: numbers or bytes with a code");
  const int64_t channels = in.shape[-1];
  require(out.shape == in.shape && gamma.elements() == channels, "volume: norm: shapes differ");
  const ConvKernels& kernels = normKernels(c.isa);
  const int64_t pixels = in.elements() / channels, grain = std::max<int64_t>(16, kVolumeGrain / channels / 16 * 16);
  c.pool.parallelFor(0, pixels, grain, [&](int64_t begin, int64_t end, int) {
    char* o = out.as<char>() + begin * channels * sizeOf(out.dtype);
    const char* i = in.as<char>() + begin * channels * sizeOf(in.dtype);
    kernels.norm({o, i, gamma.as<float>(), out.dtype, in.dtype, end - begin, channels, a, code});
  });
}

void splitTime(Context& c, const Tensor& out, const Tensor& in, int factor) {
  const int64_t frames = in.shape[0], pixels = in.shape[1] * in.shape[2], channels = out.shape[3];
  require(out.dtype == in.dtype, "volume: splitTime: types differ");
  require(factor > 0 && in.shape[3] == factor * channels &&
              out.shape == Shape({factor * frames, in.shape[1], in.shape[2], channels}), "volume: splitTime: shapes do not fit");
  const size_t bytes = static_cast<size_t>(channels) * sizeOf(in.dtype);
  c.pool.parallelFor(0, out.shape[0], 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t f = begin; f < end; ++f) {
      const char* from = in.as<char>() + (f / factor * pixels * factor + f % factor) * bytes;
      char* to = out.as<char>() + f * pixels * bytes;
      for (int64_t p = 0; p < pixels; ++p) std::memcpy(to + p * bytes, from + p * factor * bytes, bytes);
    }
  });
}

void permute(Context& c, ChannelOrder order, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add) {
  if (order == ChannelOrder::Last) transpose<true>(c, out, in, mul, add);
  else transpose<false>(c, out, in, mul, add);
}

void tanhClamp(Context& c, const Tensor& out, const Tensor& in) {
  requireFloat(in), requireFloat(out);
  require(out.shape == in.shape, "volume: tanhClamp: shapes differ");
  c.pool.parallelFor(0, in.elements(), kVolumeGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      storeFloat(out.data, out.dtype, i, kTanhClamp * std::tanh(loadFloat(in.data, in.dtype, i) / kTanhClamp));
  });
}

void toRgb8(Context& c, const Tensor& out, const Tensor& in, bool unit) {
  requireFloat(in);
  require(out.dtype == DType::U8 && out.elements() == in.elements(), "volume: toRgb8: out must be bytes of the same shape");
  c.pool.parallelFor(0, in.elements(), kVolumeGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out.as<uint8_t>()[i] = toByte(loadFloat(in.data, in.dtype, i), unit);
  });
}

}  // namespace longlive::cpu

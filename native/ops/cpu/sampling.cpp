#include "sampling.h"

#include <cstring>

#include "conv_kernels.h"
#include "conv_scalar.h"
#include "require.h"

namespace longlive::cpu {

namespace {

// One chroma sample is the mean of 2 x 2 pixels; the coefficients are 224/255 scaled to 16 bits, each row summing to 0.
void chroma(const uint8_t* top, const uint8_t* bottom, uint8_t& u, uint8_t& v) {
  const int r = top[0] + top[3] + bottom[0] + bottom[3];
  const int g = top[1] + top[4] + bottom[1] + bottom[4];
  const int b = top[2] + top[5] + bottom[2] + bottom[5];
  constexpr int half = 1 << 17, middle = 128 << 18;
  u = static_cast<uint8_t>((-6596 * r - 22189 * g + 28785 * b + middle + half) >> 18);
  v = static_cast<uint8_t>((28785 * r - 26145 * g - 2640 * b + middle + half) >> 18);
}

}  // namespace

void copy(Context& c, const Tensor& out, const Tensor& in) {
  const int64_t n = in.elements();
  require(out.elements() == n, "copy: element counts differ");
  if (n == 0) return;
  if (out.dtype == in.dtype) {
    std::memmove(out.data, in.data, in.bytes());
  } else if (in.dtype == DType::F32 && out.dtype == DType::BF16) {
    toBf16(c, out.as<bf16>(), in.as<float>(), n);
  } else if (in.dtype == DType::BF16 && out.dtype == DType::F32) {
    fromBf16(c, out.as<float>(), in.as<bf16>(), n);
  } else {
    require(false, "copy: no conversion between these types");
  }
}

void embed(Context& c, const Tensor& out, const Tensor& table, std::span<const int32_t> ids) {
  const int64_t width = table.shape[1];
  require(out.elements() == static_cast<int64_t>(ids.size()) * width, "embed: wrong output size");
  for (size_t i = 0; i < ids.size(); ++i) {
    require(ids[i] >= 0 && ids[i] < table.shape[0], "embed: id outside the table");
    copy(c, out.view({static_cast<int64_t>(ids.size()), width}).rows(static_cast<int64_t>(i), 1), table.rows(ids[i], 1));
  }
}

// Token (f, y, x), element 4c + 2ky + kx = latents[f, c, 2y + ky, 2x + kx]; spec 2.2.
void patchify(const Tensor& tokens, const Tensor& latents) {
  const int64_t frames = latents.shape[0], channels = latents.shape[1], h = latents.shape[2], w = latents.shape[3];
  require(h % 2 == 0 && w % 2 == 0 && tokens.elements() == latents.elements(), "patchify: wrong shapes");
  const float* in = latents.as<float>();
  float* out = tokens.as<float>();
  for (int64_t f = 0; f < frames; ++f)
    for (int64_t y = 0; y < h; y += 2)
      for (int64_t x = 0; x < w; x += 2)
        for (int64_t ch = 0; ch < channels; ++ch) {
          const float* patch = in + ((f * channels + ch) * h + y) * w + x;
          *out++ = patch[0];
          *out++ = patch[1];
          *out++ = patch[w];
          *out++ = patch[w + 1];
        }
}

// The head's rows are ordered (ky, kx, c), spec 2.2; the reference subtracts in float64, spec 5.2.
void flowToX0(Context& c, const Tensor& x0, const Tensor& xt, const Tensor& flow, float sigma) {
  const int64_t frames = xt.shape[0], channels = xt.shape[1], h = xt.shape[2], w = xt.shape[3];
  require(flow.elements() == xt.elements() && x0.elements() == xt.elements(), "flowToX0: wrong shapes");
  const float* noisy = xt.as<float>();
  const float* v = flow.as<float>();
  float* out = x0.as<float>();
  c.pool.parallelFor(0, frames * h, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t f = row / h, y = row % h;
      for (int64_t x = 0; x < w; ++x) {
        const int64_t token = (f * (h / 2) + y / 2) * (w / 2) + x / 2;
        const float* vector = v + (token * 4 + (y % 2) * 2 + x % 2) * channels;
        for (int64_t ch = 0; ch < channels; ++ch) {
          const int64_t at = ((f * channels + ch) * h + y) * w + x;
          out[at] = static_cast<float>(noisy[at] - static_cast<double>(sigma) * vector[ch]);
        }
      }
    }
  });
}

void mix(const Tensor& out, const Tensor& a, const Tensor& b, float s) {
  const int64_t n = a.elements();
  require(out.elements() == n && b.elements() == n && out.dtype == a.dtype && b.dtype == a.dtype, "mix: shapes or types differ");
  if (a.dtype == DType::F32) {
    for (int64_t i = 0; i < n; ++i) out.as<float>()[i] = (1.0f - s) * a.as<float>()[i] + s * b.as<float>()[i];
    return;
  }
  require(a.dtype == DType::BF16, "mix: F32 or BF16 only");
  const auto rounded = [](float x) {
    uint16_t bits;
    storeFloat(&bits, DType::BF16, 0, x);
    return loadFloat(&bits, DType::BF16, 0);
  };
  for (int64_t i = 0; i < n; ++i) {
    storeFloat(out.data, DType::BF16, i, rounded((1.0f - s) * loadFloat(a.data, DType::BF16, i)) + rounded(s * loadFloat(b.data, DType::BF16, i)));
  }
}

// BT.709, limited range, 16.16 fixed point:
//   Y = 16 + 219/255 (0.2126 R + 0.7152 G + 0.0722 B), U = 128 + 224/255 (B - Y') / 1.8556, V = 128 + 224/255 (R - Y') / 1.5748
void toI420(Context& c, const Tensor& out, const Tensor& rgb) {
  const int64_t frames = rgb.shape[0], h = rgb.shape[1], w = rgb.shape[2];
  require(h % 2 == 0 && w % 2 == 0, "toI420: odd size");
  require(out.elements() == frames * h * w * 3 / 2, "toI420: wrong output size");
  c.pool.parallelFor(0, frames * h / 2, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t pair = begin; pair < end; ++pair) {
      const int64_t f = pair / (h / 2), row = pair % (h / 2) * 2;
      const uint8_t* top = rgb.as<uint8_t>() + (f * h + row) * w * 3;
      uint8_t* plane = out.as<uint8_t>() + f * h * w * 3 / 2;
      uint8_t* y = plane + row * w;
      for (int64_t i = 0; i < 2 * w; ++i) {
        const uint8_t* p = top + 3 * i;
        y[i] = static_cast<uint8_t>((11966 * p[0] + 40254 * p[1] + 4064 * p[2] + (16 << 16) + 32768) >> 16);
      }
      uint8_t* u = plane + h * w + row / 2 * (w / 2);
      uint8_t* v = u + h * w / 4;
      for (int64_t x = 0; x < w / 2; ++x) chroma(top + 6 * x, top + (w + 2 * x) * 3, u[x], v[x]);
    }
  });
}

}  // namespace longlive::cpu

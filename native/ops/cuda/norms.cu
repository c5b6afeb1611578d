// Normalisation and rotation of token rows, and the channel norm of volumes.
//
//   LayerNorm  n = (x - mean) rsqrt(mean((x - mean)^2) + eps);  R(R(R(n) R(1 + scale)) + shift), or R(n w + b)
//   RMSNorm    R(R(x rsqrt(mean(x^2) + eps)) w), over the whole row: all heads together (spec 2.5)
//   rotation   R of pair (re, im) times (cos + i sin), by three positions (spec 2.6)
//   channel    x / max(||x||, 1e-12) sqrt(C) gamma over the channels of a pixel, then the activation
//
// Bound: memory. A row is read once and written once (rows.cuh). Rotation tables are a few kilobytes and stay in L1/L2; a lane reads those
// of its columns once, since they are the same in every head.
#include <bit>
#include <type_traits>

#include "attention_plan.h"
#include "device.cuh"
#include "kernels.h"
#include "launch.h"
#include "rows.cuh"

namespace longlive::cuda {
namespace {

constexpr int kMaxFrames = 64;  // of one rotation launch

struct Rotation {
  const float *temporal, *row, *column;
  int t, h, w;  // pairs of each axis
  int gridHeight, gridWidth, headDim;
  int32_t position[kMaxFrames];
};

// What turns the V / 2 pairs at column `column` of a row, of token `token` (counted over the frames of the call).
template <int V> struct Turn {
  float2 by[V > 1 ? V / 2 : 1];

  __device__ __forceinline__ void read(const Rotation& r, int token, int column) {
    const int x = token % r.gridWidth, y = token / r.gridWidth % r.gridHeight, frame = token / r.gridWidth / r.gridHeight;
#pragma unroll
    for (int i = 0; i < V / 2; ++i) {
      const int pair = (column + 2 * i) % r.headDim / 2;
      const float* at;
      if (pair < r.t) at = r.temporal + (r.position[frame] * r.t + pair) * 2;
      else if (pair < r.t + r.h) at = r.row + (y * r.h + pair - r.t) * 2;
      else at = r.column + (x * r.w + pair - r.t - r.h) * 2;
      by[i] = *reinterpret_cast<const float2*>(at);
    }
  }
  __device__ __forceinline__ void apply(float (&x)[V]) const {
#pragma unroll
    for (int i = 0; i < V / 2; ++i) {
      const float re = x[2 * i], im = x[2 * i + 1];
      x[2 * i] = re * by[i].x - im * by[i].y;
      x[2 * i + 1] = re * by[i].y + im * by[i].x;
    }
  }
};

// scale and shift have a row per rowsPerFrame rows. affine: out = n scale + shift.
template <class R, bool Affine, class To, class T = typename R::Element>
__global__ void __launch_bounds__(R::kThreads, R::kBlocks)
layerNormKernel(To out, const T* in, const T* scale, const T* shift, int64_t rows, int width, int64_t rowsPerFrame, float eps) {
  followEarlier();
  constexpr int V = R::V;
  __shared__ float partial[kRowThreads / 32];
  const int64_t row = R::number();
  if (row >= rows) return;
  const int64_t frame = Affine ? 0 : row / rowsPerFrame * width;
  R r;
  r.read(in + row * width, width);
  const float mean = r.sum(width, partial, [](float v) { return v; }) / width;
  const float variance = r.sum(width, partial, [mean](float v) { return (v - mean) * (v - mean); }) / width;
  const float inverse = rsqrtf(variance + eps);
  r.change(width, [&](float (&v)[V], int column) {
    float a[V], b[V];
    load<V>(a, scale + frame + column);
    load<V>(b, shift + frame + column);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float n = (v[j] - mean) * inverse;
      v[j] = Affine ? n * a[j] + b[j] : rounded<T>(rounded<T>(n) * rounded<T>(1.0f + a[j])) + b[j];
    }
  });
  r.put(out, row, width, partial);
}

// Rows of a call that begin with `first`, in bytes by head [heads, rows, headDim], with a scale each.
struct HeadRows {
  int8_t* data;
  float* scale;
  int64_t first, rows;
  int headDim;
};

template <int V, class T>
__device__ __forceinline__ void putVector(const FloatRows<T>& out, int64_t row, int width, int column, const float (&v)[V]) {
  store<V>(out.data + row * width + column, v);
}

// headDim / 8 neighbouring lanes have a head, and all of them are here (canQuantizeQueries). Quantizes what would have been stored.
template <int V>
__device__ __forceinline__ void putVector(const HeadRows& out, int64_t row, int, int column, const float (&x)[V]) {
  static_assert(V == 8);
  float v[V], highest = 0;
#pragma unroll
  for (int j = 0; j < V; ++j) v[j] = rounded<bf16>(x[j]), highest = fmaxf(highest, fabsf(v[j]));
  for (int lanes = out.headDim / V / 2; lanes > 0; lanes /= 2) highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, lanes));
  const float scale = highest > 0 ? highest / 127.0f : 1.0f, inverse = 1.0f / scale;
  const int head = column / out.headDim, channel = column % out.headDim;
  const int64_t at = head * out.rows + out.first + row;
  if (channel == 0) out.scale[at] = scale;
  const auto pack = [&](int j) { return packInt8(v[j] * inverse, v[j + 1] * inverse, v[j + 2] * inverse, v[j + 3] * inverse); };
  *reinterpret_cast<uint2*>(out.data + at * out.headDim + channel) = make_uint2(pack(0), pack(4));
}

template <class R, bool Normalise, bool Rotate, class To, class T = typename R::Element>
__global__ void __launch_bounds__(R::kThreads, R::kBlocks)
rmsNormRopeKernel(To out, const T* in, const T* weight, int64_t rows, int width, float eps, const __grid_constant__ Rotation rotation) {
  followEarlier();
  constexpr int V = R::V;
  __shared__ float partial[kRowThreads / 32];
  const int64_t row = R::number();
  if (row >= rows) return;
  R r;
  r.read(in + row * width, width);
  // Neighbours of one member lie whole heads apart, or not.
  const bool alike = Rotate && R::members() * V % rotation.headDim == 0;
  Turn<V> turn;
  if (alike) turn.read(rotation, static_cast<int>(row), R::member() * V);
  float inverse = 1.0f;
  if constexpr (Normalise) inverse = rsqrtf(r.sum(width, partial, [](float v) { return v * v; }) / width + eps);
  r.each(width, [&](float (&v)[V], int column) {
    if constexpr (Normalise) {
      float w[V];
      load<V>(w, weight + column);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = rounded<T>(rounded<T>(v[j] * inverse) * w[j]);
    }
    if constexpr (Rotate) {
      if (!alike) turn.read(rotation, static_cast<int>(row), column);
      turn.apply(v);
    }
    putVector(out, row, width, column, v);
  });
}

// 2^lanesLog2 neighbours share a pixel; each reads vectors lane, lane + lanes, ... N: how many; 0: as many as it takes, each of them twice.
template <class In, class Out, int V, int N>
__global__ void __launch_bounds__(kRowThreads)
channelNormKernel(Out* out, const In* in, const float* gamma, int64_t pixels, int channels, int lanesLog2, Activation activation) {
  followEarlier();
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t pixel = thread >> lanesLog2, at = pixel * channels;
  const int lanes = 1 << lanesLog2, first = (static_cast<int>(threadIdx.x) & (lanes - 1)) * V, step = lanes * V;
  const bool inside = pixel < pixels;  // everybody takes part in the shuffles
  float x[N ? N : 1][V], squares = 0;
  const auto add = [&](const float (&v)[V]) {
#pragma unroll
    for (int j = 0; j < V; ++j) squares += v[j] * v[j];
  };
  const auto each = [&](auto f) {
    if constexpr (N > 0) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        if (inside) f(x[i], first + i * step);
      }
    } else {
      for (int c = first; inside && c < channels; c += step) f(x[0], c);
    }
  };
  each([&](float (&v)[V], int c) { load<V>(v, in + at + c), add(v); });
  for (int mask = lanes / 2; mask > 0; mask >>= 1) squares += __shfl_xor_sync(0xffffffffu, squares, mask);
  const float scale = sqrtf(static_cast<float>(channels)) / fmaxf(sqrtf(squares), 1e-12f);
  each([&](float (&v)[V], int c) {
    float g[V];
    if constexpr (N == 0) load<V>(v, in + at + c);
    load<V>(g, gamma + c);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = activated<Out>(v[j] * scale * g[j], activation);
    store<V>(out + at + c, v);
  });
}

template <bool Affine>
void layerNorm(cudaStream_t stream, const LinearRows& out, const Tensor& in, const Tensor& scale, const Tensor& shift, int64_t frames, float eps) {
  const int64_t width = in.shape[-1], rows = rowsOf(in);
  requireRow(out, in, "layerNorm: out and in must be rows of one type, or out bytes with scales, at most 12288 wide");
  require(scale.dtype == in.dtype && shift.dtype == in.dtype && frames > 0 && rows % frames == 0, "layerNorm: the parameters do not fit");
  dispatchRow(in.dtype, rows, width, false, [&](auto row, dim3 grid, unsigned threads) {
    using R = decltype(row);
    using T = typename R::Element;
    byTarget<R>(out, [&](auto to) {
      launch("layerNorm", &layerNormKernel<R, Affine, decltype(to)>, grid, threads, 0, stream, to, in.as<T>(), scale.as<T>(), shift.as<T>(), rows,
             static_cast<int>(width), rows / frames, eps);
    });
  });
}

template <bool Normalise, bool Rotate>
void rmsNormRope(cudaStream_t stream, const Tensor& out, const Tensor& in, const Tensor& weight, float eps, const Rotation& r) {
  const int64_t width = in.shape[-1], rows = rowsOf(in);
  requireRow(out, in, "rmsNorm: out and in must be rows of one type, at most 12288 wide");
  if constexpr (Normalise) require(weight.dtype == in.dtype && weight.elements() == width, "rmsNorm: the weight does not fit");
  dispatchRow(in.dtype, rows, width, Rotate, [&](auto row, dim3 grid, unsigned threads) {
    using R = decltype(row);
    using T = typename R::Element;
    if constexpr (R::V > 1 || !Rotate) {
      launch("rmsNormRope", &rmsNormRopeKernel<R, Normalise, Rotate, FloatRows<T>>, grid, threads, 0, stream, FloatRows<T>{out.as<T>()}, in.as<T>(), weight.as<T>(), rows,
             static_cast<int>(width), eps, r);
    }
  });
}

void quantizedQueries(cudaStream_t stream, const HeadRows& out, const Tensor& in, const Tensor& weight, float eps, const Rotation& r) {
  const int64_t width = in.shape[-1], rows = rowsOf(in);
  require(in.dtype == DType::BF16 && weight.dtype == DType::BF16 && weight.elements() == width, "quantizedQueries: bf16 only");
  dispatchRow(DType::BF16, rows, width, true, [&](auto row, dim3 grid, unsigned threads) {
    using R = decltype(row);
    if constexpr (std::is_same_v<R, Row<bf16, 8, 2, true>> || std::is_same_v<R, Row<bf16, 8, 6, true>>) {
      launch("rmsNormRope", &rmsNormRopeKernel<R, true, true, HeadRows>, grid, threads, 0, stream, out, in.as<bf16>(), weight.as<bf16>(), rows,
             static_cast<int>(width), eps, r);
    }
  });
}

// Rotations travel in the launch, so a call of many frames is several launches. f(rotation, first row, rows) is one.
template <class F>
void rotateFrames(const Tensor& in, int64_t heads, const RopeTables& tables, std::span<const int32_t> temporal, F f) {
  const int64_t width = in.shape[-1], frames = static_cast<int64_t>(temporal.size()), perFrame = tables.gridHeight * tables.gridWidth;
  Rotation r{};
  r.temporal = tables.temporal.as<float>(), r.row = tables.row.as<float>(), r.column = tables.column.as<float>();
  r.t = static_cast<int>(tables.temporal.shape[1]), r.h = static_cast<int>(tables.row.shape[1]), r.w = static_cast<int>(tables.column.shape[1]);
  r.gridHeight = static_cast<int>(tables.gridHeight), r.gridWidth = static_cast<int>(tables.gridWidth);
  r.headDim = static_cast<int>(width / heads);
  require(width == heads * 2 * (r.t + r.h + r.w), "rope: the tables do not match the head");
  require(rowsOf(in) == frames * perFrame, "rope: one position per frame");
  for (int64_t frame = 0; frame < frames; frame += kMaxFrames) {
    const int64_t count = std::min<int64_t>(kMaxFrames, frames - frame);
    std::copy_n(temporal.begin() + frame, count, r.position);
    f(r, frame * perFrame, count * perFrame);
  }
}

template <bool Normalise>
void rotateFrames(cudaStream_t stream, const Tensor& out, const Tensor& in, const Tensor& weight, float eps, int64_t heads,
                  const RopeTables& tables, std::span<const int32_t> temporal) {
  const Shape shape{rowsOf(in), in.shape[-1]};
  rotateFrames(in, heads, tables, temporal, [&](const Rotation& r, int64_t first, int64_t rows) {
    rmsNormRope<Normalise, true>(stream, out.view(shape).rows(first, rows), in.view(shape).rows(first, rows), weight, eps, r);
  });
}

}  // namespace

void layerNormModulate(cudaStream_t stream, const LinearRows& out, const Tensor& in, const Tensor& scale, const Tensor& shift, float eps) {
  layerNorm<false>(stream, out, in, scale, shift, scale.elements() / in.shape[-1], eps);
}

void layerNormAffine(cudaStream_t stream, const LinearRows& out, const Tensor& in, const Tensor& weight, const Tensor& bias, float eps) {
  layerNorm<true>(stream, out, in, weight, bias, 1, eps);
}

void rmsNorm(cudaStream_t stream, const Tensor& out, const Tensor& in, const Tensor& weight, float eps) {
  rmsNormRope<true, false>(stream, out, in, weight, eps, Rotation{});
}

void rmsNormRope(cudaStream_t stream, const Tensor& out, const Tensor& in, const Tensor& weight, float eps, int64_t heads,
                 const RopeTables& tables, std::span<const int32_t> temporal) {
  rotateFrames<true>(stream, out, in, weight, eps, heads, tables, temporal);
}

void quantizedQueries(cudaStream_t stream, const Tensor& bytes, const Tensor& scale, const Tensor& in, const Tensor& weight, float eps, int64_t heads,
                      const RopeTables& tables, std::span<const int32_t> temporal) {
  const int64_t width = in.shape[-1], rows = rowsOf(in);
  require(canQuantizeQueries(width, heads) && bytes.dtype == DType::I8 && bytes.elements() == in.elements() && scale.dtype == DType::F32 &&
              scale.elements() == heads * rows,
          "quantizedQueries: shapes do not match");
  rotateFrames(in, heads, tables, temporal, [&](const Rotation& r, int64_t first, int64_t count) {
    const HeadRows out{bytes.as<int8_t>(), scale.as<float>(), first, rows, r.headDim};
    quantizedQueries(stream, out, in.view({rows, width}).rows(first, count), weight, eps, r);
  });
}

void rope(cudaStream_t stream, const Tensor& out, const Tensor& in, int64_t heads, const RopeTables& tables,
          std::span<const int32_t> temporal) {
  rotateFrames<false>(stream, out, in, {}, 0.0f, heads, tables, temporal);
}

void channelNorm(cudaStream_t stream, const Tensor& out, const Tensor& in, const Tensor& gamma, Activation a) {
  const int64_t channels = in.shape[-1], pixels = rowsOf(in);
  require(isFloat(in) && isFloat(out) && out.elements() == in.elements() && gamma.dtype == DType::F32 && gamma.elements() == channels,
          "channelNorm: shapes do not match");
  const auto run = [&](auto source, auto target) {
    using In = decltype(source);
    using Out = decltype(target);
    const auto start = [&](auto vector, auto count, int lanesLog2) {
      constexpr int V = vector, N = count;
      launch("channelNorm", &channelNormKernel<In, Out, V, N>, dim3(static_cast<unsigned>(ceilDiv(pixels << lanesLog2, kRowThreads))), kRowThreads, 0,
             stream, out.as<Out>(), in.as<In>(), gamma.as<float>(), pixels, static_cast<int>(channels), lanesLog2, a);
    };
    using std::integral_constant;
    const unsigned vectors = static_cast<unsigned>(channels / 8);
    const int even = std::min(std::countr_zero(vectors), 5);  // 2^even lanes have the same number of vectors each
    if (channels % 8 != 0) start(integral_constant<int, 1>{}, integral_constant<int, 0>{}, 5);
    else if (vectors >> even == 1) start(integral_constant<int, 8>{}, integral_constant<int, 1>{}, even);
    else if (vectors >> even == 3) start(integral_constant<int, 8>{}, integral_constant<int, 3>{}, even);  // 96, 192, 384
    else start(integral_constant<int, 8>{}, integral_constant<int, 0>{}, 3);
  };
  const auto byOut = [&](auto source) {
    if (out.dtype == DType::BF16) run(source, bf16{});
    else run(source, float{});
  };
  if (in.dtype == DType::BF16) byOut(bf16{});
  else byOut(float{});
}

}  // namespace longlive::cuda

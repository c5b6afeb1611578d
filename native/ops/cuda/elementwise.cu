// Elementwise operations. Bound: memory; one pass, 8 elements per thread where lengths allow.
#include "device.cuh"
#include "flat.cuh"
#include "gemm.h"
#include "kernels.h"
#include "launch.h"
#include "rows.cuh"

#include <type_traits>

namespace longlive::cuda {
namespace {

template <class In, class Out, int V>
__global__ void convertKernel(Out* out, const In* in, int64_t n) {
  followEarlier();
  const int64_t i = globalThread() * V;
  if (i >= n) return;
  float x[V];
  load<V>(x, in + i);
  store<V>(out + i, x);
}

// b repeats with `period`.
template <class T, int V>
__global__ void addKernel(T* out, const T* a, const T* b, int64_t n, int64_t period) {
  followEarlier();
  const int64_t i = globalThread() * V;
  if (i >= n) return;
  float x[V], y[V];
  load<V>(x, a + i);
  load<V>(y, b + i % period);
#pragma unroll
  for (int j = 0; j < V; ++j) x[j] += y[j];
  store<V>(out + i, x);
}

template <class T, int V>
__global__ void activateKernel(T* out, const T* in, int64_t n, Activation a) {
  followEarlier();
  const int64_t i = globalThread() * V;
  if (i >= n) return;
  float x[V];
  load<V>(x, in + i);
#pragma unroll
  for (int j = 0; j < V; ++j) x[j] = activated<T>(x[j], a);
  store<V>(out + i, x);
}

constexpr int kIds = 512;  // of one launch: 2 KiB of arguments
struct Ids { int32_t at[kIds]; };

template <class In, class Out>
__global__ void embedKernel(Out* out, const In* table, int width, const __grid_constant__ Ids ids) {
  followEarlier();
  const int64_t from = static_cast<int64_t>(ids.at[blockIdx.x]) * width, to = static_cast<int64_t>(blockIdx.x) * width;
  for (int i = static_cast<int>(threadIdx.x); i < width; i += static_cast<int>(blockDim.x)) {
    out[to + i] = fromFloat<Out>(toFloat(table[from + i]));
  }
}

// Rounding as in spec 2.8: activation, R(y multiply), R(x + R(y gate)).
template <class T, int V>
__global__ void finishLinearKernel(T* out, const T* product, const T* multiply, const T* residual, const T* gate, Activation activation,
                                   int64_t n, int64_t width, int64_t rowsPerGate) {
  followEarlier();
  const int64_t i = globalThread() * V;
  if (i >= n) return;
  float y[V], other[V];
  load<V>(y, product + i);
  if (activation != Activation::None) {
#pragma unroll
    for (int j = 0; j < V; ++j) y[j] = rounded<T>(activated<T>(y[j], activation));
  }
  if (multiply) {
    load<V>(other, multiply + i);
#pragma unroll
    for (int j = 0; j < V; ++j) y[j] = rounded<T>(y[j] * other[j]);
  }
  if (gate) {
    load<V>(other, gate + i / width / rowsPerGate * width + i % width);
#pragma unroll
    for (int j = 0; j < V; ++j) y[j] = rounded<T>(y[j] * other[j]);
  }
  if (residual) {
    load<V>(other, residual + i);
#pragma unroll
    for (int j = 0; j < V; ++j) y[j] += other[j];
  }
  store<V>(out + i, y);
}

template <class R, class To, class T = typename R::Element>
__global__ void __launch_bounds__(R::kThreads, R::kBlocks) quantizeKernel(To out, const T* in, Activation activation, int64_t rows, int width) {
  followEarlier();
  __shared__ float partial[kRowThreads / 32];
  const int64_t row = R::number();
  if (row >= rows) return;
  R r;
  r.read(in + row * width, width);
  if (activation != Activation::None) {
    r.change(width, [&](float (&x)[R::V], int) {
#pragma unroll
      for (int j = 0; j < R::V; ++j) x[j] = activated<T>(x[j], activation);
    });
  }
  r.put(out, row, width, partial);
}

// Eight elements per thread; strides are multiples of 8.
__global__ void widenKernel(bf16* out, int64_t outStride, const int8_t* bytes, int64_t stride, const float* scale, int64_t rows) {
  followEarlier();
  const int64_t i = globalThread() * 8, row = i / outStride, column = i % outStride;
  if (row >= rows) return;
  float x[8];
  const uint2 eight = *reinterpret_cast<const uint2*>(bytes + row * stride + column);
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const uint32_t word = j < 4 ? eight.x : eight.y;
    x[j] = static_cast<float>(static_cast<int8_t>(word >> 8 * (j % 4) & 0xff)) * scale[row];
  }
  store<8>(out + i, x);
}

bool aligned(const Tensor& t) { return !t.data || reinterpret_cast<uintptr_t>(t.data) % 16 == 0; }

template <class F> void byType(DType type, F f) {
  if (type == DType::BF16) f(bf16{});
  else f(float{});
}
template <class F> void byVector(bool wide, F f) {
  if (wide) f(std::integral_constant<int, 8>{});
  else f(std::integral_constant<int, 1>{});
}

}  // namespace

void convert(cudaStream_t stream, const Tensor& out, const Tensor& in) {
  const int64_t n = in.elements();
  require(out.elements() == n, "copy: element counts differ");
  if (n == 0) return;
  if (out.dtype == in.dtype) {
    check(cudaMemcpyAsync(out.data, in.data, in.bytes(), cudaMemcpyDeviceToDevice, stream), "copy");
    return;
  }
  require(isFloat(out) && isFloat(in), "copy: no conversion between these types");
  byVector(n % 8 == 0 && aligned(out) && aligned(in), [&](auto vector) {
    constexpr int V = vector;
    if (in.dtype == DType::F32) {
      launch("convert", &convertKernel<float, bf16, V>, flatGrid(n / V), kFlatThreads, 0, stream, out.as<bf16>(), in.as<float>(), n);
    } else {
      launch("convert", &convertKernel<bf16, float, V>, flatGrid(n / V), kFlatThreads, 0, stream, out.as<float>(), in.as<bf16>(), n);
    }
  });
}

void add(cudaStream_t stream, const Tensor& out, const Tensor& a, const Tensor& b) {
  const int64_t n = a.elements(), period = b.elements();
  require(isFloat(a) && out.dtype == a.dtype && b.dtype == a.dtype && out.elements() == n, "add: types or shapes differ");
  if (n == 0) return;
  require(period > 0 && n % period == 0, "add: the second operand does not repeat evenly");
  byType(a.dtype, [&](auto element) {
    using T = decltype(element);
    byVector(period % 8 == 0 && aligned(out) && aligned(a) && aligned(b), [&](auto vector) {
      constexpr int V = vector;
      launch("add", &addKernel<T, V>, flatGrid(n / V), kFlatThreads, 0, stream, out.as<T>(), a.as<T>(), b.as<T>(), n, period);
    });
  });
}

void activate(cudaStream_t stream, const Tensor& out, const Tensor& in, Activation a) {
  const int64_t n = in.elements();
  require(isFloat(in) && out.dtype == in.dtype && out.elements() == n, "activate: types or shapes differ");
  byType(in.dtype, [&](auto element) {
    using T = decltype(element);
    byVector(n % 8 == 0 && aligned(out) && aligned(in), [&](auto vector) {
      constexpr int V = vector;
      launch("activate", &activateKernel<T, V>, flatGrid(n / V), kFlatThreads, 0, stream, out.as<T>(), in.as<T>(), n, a);
    });
  });
}

void embed(cudaStream_t stream, const Tensor& out, const Tensor& table, std::span<const int32_t> ids) {
  const int64_t width = table.shape[1], count = static_cast<int64_t>(ids.size());
  require(isFloat(table) && isFloat(out) && out.elements() == count * width, "embed: wrong output size");
  for (int32_t id : ids) require(id >= 0 && id < table.shape[0], "embed: id outside the table");
  for (int64_t first = 0; first < count; first += kIds) {
    const int64_t n = std::min<int64_t>(kIds, count - first);
    Ids part{};
    std::copy_n(ids.begin() + first, n, part.at);
    const Tensor rows = out.view({count, width}).rows(first, n);
    byType(table.dtype, [&](auto source) {
      byType(out.dtype, [&](auto target) {
        using In = decltype(source);
        using Out = decltype(target);
        launch("embed", &embedKernel<In, Out>, dim3(static_cast<unsigned>(n)), kFlatThreads, 0, stream, rows.as<Out>(), table.as<In>(),
               static_cast<int>(width), part);
      });
    });
  }
}

void finishLinear(cudaStream_t stream, const Tensor& out, const Tensor& product, const Epilogue& e) {
  const int64_t n = out.elements(), width = out.shape[-1];
  const auto fits = [&](const Tensor& t) { return !t || t.dtype == out.dtype; };
  require(isFloat(out) && fits(product) && fits(e.multiply) && fits(e.residual) && fits(e.gate), "linear: types differ");
  const int64_t gateRows = e.gate ? e.gate.elements() / width : 1;
  byType(out.dtype, [&](auto element) {
    using T = decltype(element);
    const bool wide = width % 8 == 0 && aligned(out) && aligned(product) && aligned(e.multiply) && aligned(e.residual) && aligned(e.gate);
    byVector(wide, [&](auto vector) {
      constexpr int V = vector;
      launch("finishLinear", &finishLinearKernel<T, V>, flatGrid(n / V), kFlatThreads, 0, stream, out.as<T>(), product.as<T>(),
             e.multiply.as<T>(), e.residual.as<T>(), e.gate.as<T>(), e.activation, n, width, n / width / gateRows);
    });
  });
}

void widenRows(cudaStream_t stream, void* out, int64_t stride, const PackedMatrix& b) {
  require(b.operand == Operand::Int8 && stride <= b.stride && stride % 8 == 0, "widen: rows of bytes expected");
  launch("widen", &widenKernel, flatGrid(b.columns * stride / 8), kFlatThreads, 0, stream, static_cast<bf16*>(out), stride,
         static_cast<const int8_t*>(b.data), b.stride, b.columnScale, b.columns);
}

void quantizeRows(cudaStream_t stream, const LinearRows& out, const Tensor& in, Activation activation) {
  const int64_t width = in.shape[-1], rows = rowsOf(in);
  requireRow(out, in, "quantize: wide rows of floats expected");
  require(static_cast<bool>(out.scale), "quantize: rows in 8 bits expected");
  dispatchRow(in.dtype, rows, width, false, [&](auto row, dim3 grid, unsigned threads) {
    using R = decltype(row);
    using T = typename R::Element;
    byTarget<R>(out, [&](auto to) {
      using To = decltype(to);
      if constexpr (!std::is_same_v<To, FloatRows<T>>) {
        launch("quantize", &quantizeKernel<R, To>, grid, threads, 0, stream, to, in.as<T>(), activation, rows, static_cast<int>(width));
      }
    });
  });
}

}  // namespace longlive::cuda

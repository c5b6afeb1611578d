#include "conv.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "conv_kernels.h"
#include "require.h"
#include "upsampled_taps.h"

namespace longlive::cpu {
namespace {

constexpr int kMaxRows = 16;  // kt * kh
constexpr int kMaxStride = 2;  // that scratch is reserved for

const ConvKernels& kernelsFor(Isa isa, Precision precision, bool bounded) {
#if defined(__x86_64__)
  if (isa >= Isa::Avx512Vnni && precision != Precision::FP32 && bounded) return avx512VnniConvKernels();
  // Not on AMX: convolutions have no kernel for its tiles, and processors that have them multiply F32 faster than by VDPBF16PS.
  if (isa == Isa::Avx512Bf16 && precision != Precision::FP32) return avx512Bf16ConvKernels();
  if (isa >= Isa::Avx512) return avx512ConvKernels();
  if (isa >= Isa::Avx2 && precision != Precision::FP32 && bounded) return avx2ByteConvKernels();
  if (isa >= Isa::Avx2) return avx2ConvKernels();
#elif defined(__aarch64__)
  if (isa >= Isa::NeonDot && precision != Precision::FP32 && bounded) return neonDotConvKernels();
  if (isa >= Isa::Neon) return neonConvKernels();
#endif
  return portableConvKernels();
}

// Weights of one or, for upsample2x, four kernels (phases), each [group][kt * kh][run / step][lanes][step].
//
// Few output channels would leave most of a vector idle. Folded weights fill it with `fold` neighbouring output pixels: lane
// j * out + o is channel o of pixel j, and its weights are the kernel shifted j inputs to the right. The outputs of such a
// group of pixels are contiguous, so to the rest of the code it is one pixel with fold * out channels.
//
// Bytes: a sum of weight * (byte - zero) is one of weight * byte, less zero times the weights' sum, which is kept by row, since rows outside
// the volume are skipped.
struct Packing {
  const ConvKernels* kernels = nullptr;
  int64_t in = 0, channels = 0;  // of a group of pixels: fold * out
  int fold = 1;
  int phases = 1, kt = 1, kh = 1;
  int lanes = 0, groups = 0;     // a group of `lanes` channels is computed at once
  int run = 0;                   // inputs of a group of pixels per row, rounded up to kernels->step
  AlignedBuffer weights, bias;
  AlignedBuffer scale, offset;   // of bytes: what makes numbers of sums, by lane, F32; what is added to them before, by row and lane, I32

  bool bytes() const { return kernels->input == DType::U8; }
  int rows() const { return kt * kh; }
  int pixels() const { return kernels->pixels[lanes / kConvLanes - 1]; }
  size_t rowElements() const { return static_cast<size_t>(run) * lanes; }
  size_t weightBytes() const { return rowIndex(phases, 0, 0) * rowElements() * sizeOf(kernels->input); }
  size_t biasBytes() const { return static_cast<size_t>(groups) * lanes * sizeof(float); }
  size_t offsetBytes() const { return rowIndex(phases, 0, 0) * lanes * sizeof(int32_t); }
  size_t rowIndex(int phase, int group, int row) const {
    return (static_cast<size_t>(phase) * groups + group) * rows() + row;
  }
  int32_t* offsetOf(int phase, int group, int row) const { return offset.as<int32_t>() + rowIndex(phase, group, row) * lanes; }
  const void* row(int phase, int group, int row) const {
    return weights.as<char>() + rowIndex(phase, group, row) * rowElements() * sizeOf(kernels->input);
  }
  int64_t windowBytes(int stride) const {  // inputs that a tile reads in one row, rounded up to whole vectors
    const int64_t elements = static_cast<int64_t>(pixels() - 1) * fold * stride * in + run;
    return (elements * static_cast<int64_t>(sizeOf(kernels->input)) + 63) / 64 * 64;
  }
  // Of a thread: as many offsets as there are biases, and windows of inputs.
  size_t scratchBytes(int stride) const { return biasBytes() + static_cast<size_t>(windowBytes(stride)) * static_cast<size_t>(rows()); }
};

struct PackedConv final : ConvWeights {
  bool upsample2x = false;
  Packing plain, folded;  // folded is used for stride 1, if there is one

  const Packing& packing(int stride) const { return stride == 1 && folded.kernels ? folded : plain; }
};

// ---- packing ----------------------------------------------------------------------------------------------------------

// W[o, i, dt, y, x] of one phase: the weight itself, or the sum of those that meet in one input.
struct PhaseWeights {
  const float* weight;
  const float* bias;
  int64_t out, in;
  int kt, kh, kw;
  bool upsample2x;

  int phaseKh() const { return upsample2x ? 2 : kh; }
  int phaseKw() const { return upsample2x ? 2 : kw; }
  float at(int phase, int64_t o, int64_t i, int dt, int y, int x) const {
    const float* w = weight + ((o * in + i) * kt + dt) * kh * kw;
    if (!upsample2x) return w[y * kw + x];
    const auto [y0, y1] = upsampledTaps(kh, phase / 2, y);
    const auto [x0, x1] = upsampledTaps(kw, phase % 2, x);
    double sum = 0;
    for (int ky = y0; ky < y1; ++ky)
      for (int kx = x0; kx < x1; ++kx) sum += w[ky * kw + kx];
    return static_cast<float>(sum);
  }
};

// Of numbers that U8 inputs are multiplied by, the weight is an I8.
void store(void* p, DType type, size_t i, float v) {
  if (type == DType::U8) {
    static_cast<int8_t*>(p)[i] = static_cast<int8_t>(std::nearbyint(v));
    return;
  }
  if (type == DType::F32) {
    static_cast<float*>(p)[i] = v;
    return;
  }
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  static_cast<Bf16*>(p)[i].bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

void packRow(Packing& p, const PhaseWeights& source, int phase, int group, int row) {
  const int step = p.kernels->step, width = source.phaseKw();
  const size_t first = p.rowIndex(phase, group, row) * p.rowElements();
  const int lanes = static_cast<int>(std::min<int64_t>(p.lanes, p.channels - group * p.lanes));
  for (int k = 0; k < (width + p.fold - 1) * p.in; ++k) {
    for (int lane = 0; lane < lanes; ++lane) {
      const int64_t channel = group * p.lanes + lane, pixel = channel / source.out;
      const int64_t x = k / p.in - pixel;
      if (x < 0 || x >= width) continue;
      float w = source.at(phase, channel % source.out, k % p.in, row / p.kh, row % p.kh, static_cast<int>(x));
      if (p.bytes()) w /= p.scale.as<float>()[channel], p.offsetOf(phase, group, row)[lane] += static_cast<int32_t>(std::nearbyint(w));
      store(p.weights.as<void>(), p.kernels->input, first + (static_cast<size_t>(k / step) * p.lanes + lane) * step + k % step, w);
    }
  }
}

// The largest weight of an output channel, in any phase.
float largestOf(const PhaseWeights& w, int64_t o) {
  float largest = 0;
  for (int phase = 0; phase < (w.upsample2x ? 4 : 1); ++phase)
    for (int64_t i = 0; i < w.in; ++i)
      for (int dt = 0; dt < w.kt; ++dt)
        for (int y = 0; y < w.phaseKh(); ++y)
          for (int x = 0; x < w.phaseKw(); ++x) largest = std::max(largest, std::fabs(w.at(phase, o, i, dt, y, x)));
  return largest;
}

// Pixels that folded weights take at once; 1: they would not pay.
int foldOf(const PhaseWeights& w) {
  const int fold = static_cast<int>(kConvLanes / w.out);
  return fold > 1 && w.kw > 1 && !w.upsample2x ? fold : 1;
}

// Without its memory.
Packing layout(const ConvKernels& kernels, const PhaseWeights& source, int fold) {
  Packing p;
  p.kernels = &kernels;
  p.in = source.in, p.channels = source.out * fold, p.fold = fold;
  p.phases = source.upsample2x ? 4 : 1, p.kt = source.kt, p.kh = source.phaseKh();
  const int blocks = static_cast<int>((p.channels + kConvLanes - 1) / kConvLanes);
  p.lanes = kConvLanes * (blocks % 2 == 0 ? kernels.maxBlocks : 1);
  p.groups = static_cast<int>((p.channels + p.lanes - 1) / p.lanes);
  const int64_t inputs = (source.phaseKw() + fold - 1) * source.in;
  p.run = static_cast<int>((inputs + kernels.step - 1) / kernels.step * kernels.step);
  return p;
}

Packing pack(ThreadPool& pool, const ConvKernels& kernels, const PhaseWeights& source, int fold, ByteCode code) {
  Packing p = layout(kernels, source, fold);
  p.weights.reserve(p.weightBytes());
  p.bias.reserve(p.biasBytes());
  for (int64_t c = 0; source.bias && c < p.channels; ++c) p.bias.as<float>()[c] = source.bias[c % source.out];
  const int rows = p.rows();
  if (p.bytes()) {
    p.scale.reserve(p.biasBytes());
    p.offset.reserve(p.offsetBytes());
    for (int64_t c = 0; c < p.channels; ++c) p.scale.as<float>()[c] = std::max(largestOf(source, c % source.out) / kernels.largestWeight, 1e-30f);
  }
  pool.parallelFor(0, static_cast<int64_t>(p.phases) * p.groups * rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      packRow(p, source, static_cast<int>(i / rows / p.groups), static_cast<int>(i / rows % p.groups), static_cast<int>(i % rows));
    }
  });
  for (size_t i = 0; i < p.scale.bytes() / sizeof(float); ++i) p.scale.as<float>()[i] *= code.step;
  for (size_t i = 0; i < p.offset.bytes() / sizeof(int32_t); ++i) p.offset.as<int32_t>()[i] *= -static_cast<int32_t>(code.zero);
  return p;
}

// ---- running ----------------------------------------------------------------------------------------------------------

// One convolution, resolved to plain numbers.
struct ConvPlan {
  const Backend::ConvArgs& args;
  const PackedConv& conv;
  const Packing& packing;
  int64_t height, width, outHeight, outWidth, outFrames, olderFrames;
  int64_t rowBytes, frameBytes, pixelBytes;
  int stride, padTop, padLeft;

  explicit ConvPlan(const Backend::ConvArgs& a);
  void checkShapes() const;
  const char* frame(int64_t t) const;  // null for a frame of zeros
};

ConvPlan::ConvPlan(const Backend::ConvArgs& a) : args(a), conv(static_cast<const PackedConv&>(*a.weights)),
                                           packing(conv.packing(a.strideHW)) {
  height = a.in.shape[1], width = a.in.shape[2];
  outFrames = a.out.shape[0], outHeight = a.out.shape[1], outWidth = a.out.shape[2];
  olderFrames = a.history ? a.history.shape[0] : 0;
  pixelBytes = conv.in * static_cast<int64_t>(sizeOf(a.in.dtype));
  rowBytes = width * pixelBytes;
  frameBytes = height * rowBytes;
  stride = a.strideHW;
  padTop = a.pad == Backend::ConvArgs::Pad::Same ? (conv.kh - 1) / 2 : 0;
  padLeft = a.pad == Backend::ConvArgs::Pad::Same ? (conv.kw - 1) / 2 : 0;
  checkShapes();
}

int64_t outputSize(int64_t n, int k, int stride, Backend::ConvArgs::Pad pad) {
  using Pad = Backend::ConvArgs::Pad;
  const int64_t padded = n + (pad == Pad::Same ? k - 1 : 1);
  return padded < k ? 0 : (padded - k) / stride + 1;
}

void ConvPlan::checkShapes() const {
  const Backend::ConvArgs& a = args;
  require(a.in.shape.rank == 4 && a.out.shape.rank == 4, "conv: volumes have four axes");
  require(a.in.shape[3] == conv.in && a.out.shape[3] == conv.out, "conv: channels differ from the weights");
  require(a.in.dtype == conv.input && (!a.history || a.history.dtype == conv.input), "conv: input must have the convolution's type");
  require(!a.history || (a.history.shape[1] == height && a.history.shape[2] == width && a.history.shape[3] == conv.in &&
                         olderFrames <= conv.kt - 1), "conv: history does not fit the input");
  require(!a.residual || a.residual.shape == a.out.shape, "conv: residual must have the shape of out");
  require(a.upsample2x == conv.upsample2x, "conv: weights were prepared for another resampling");
  require(!a.upsample2x || (a.strideHW == 1 && a.pad == Backend::ConvArgs::Pad::Same), "conv: upsampling needs stride 1");
  const int scale = a.upsample2x ? 2 : 1;
  require(outHeight == scale * outputSize(height, conv.kh, stride, a.pad) &&
              outWidth == scale * outputSize(width, conv.kw, stride, a.pad), "conv: out has the wrong height or width");
  const int64_t frames = a.causal ? a.in.shape[0] : olderFrames + a.in.shape[0] - (conv.kt - 1);
  require(outFrames == (frames + a.strideT - 1) / a.strideT, "conv: out has the wrong number of frames");
}

const char* ConvPlan::frame(int64_t t) const {
  if (t >= 0) return args.in.as<char>() + t * frameBytes;
  const int64_t older = olderFrames + t;
  return older >= 0 ? args.history.as<char>() + older * frameBytes : nullptr;
}

// The input rows that one output row sees, and for each which kernel row it meets.
struct InputRows {
  const char* data[kMaxRows];
  int tap[kMaxRows];
  int count = 0;
};

InputRows inputRows(const ConvPlan& p, int64_t t, int64_t firstRow) {
  InputRows rows;
  const int64_t firstFrame = t * p.args.strideT - (p.args.causal ? p.conv.kt - 1 : p.olderFrames);
  for (int dt = 0; dt < p.conv.kt; ++dt) {
    const char* frame = p.frame(firstFrame + dt);
    if (!frame) continue;
    for (int dy = 0; dy < p.packing.kh; ++dy) {
      const int64_t y = firstRow + dy;
      if (y < 0 || y >= p.height) continue;
      rows.data[rows.count] = frame + y * p.rowBytes;
      rows.tap[rows.count++] = dt * p.packing.kh + dy;
    }
  }
  return rows;
}

// The bytes [begin, begin + size) of a row, `byte` where that lies outside [0, rowBytes).
void copyWindow(char* out, const char* row, int64_t rowBytes, int64_t begin, int64_t size, uint8_t byte) {
  const int64_t from = std::clamp<int64_t>(begin, 0, rowBytes), to = std::clamp<int64_t>(begin + size, from, rowBytes);
  const int64_t left = std::min(from - begin, size);
  std::memset(out, byte, left);
  std::memcpy(out + left, row + from, to - from);
  std::memset(out + left + (to - from), byte, size - left - (to - from));
}

// A tile of one phase of one row: `pixels` groups of output pixels from element `first` of out on, the last of which has
// only `lastChannels` channels inside the row.
struct OutputTile {
  int64_t first, stride;  // elements
  int pixels;
  int64_t lastChannels;
};

// Adds bias and residual and stores channels [begin, begin + channels) of pixels [from, from + count).
void finishTile(const ConvPlan& p, const OutputTile& t, const float* acc, int64_t begin, int64_t channels, int from, int count) {
  const Packing& k = p.packing;
  const Backend::ConvArgs& a = p.args;
  const int64_t first = t.first + from * t.stride + begin;
  ConvFinish f{};
  f.out = a.out.as<char>() + first * sizeOf(a.out.dtype), f.outType = a.out.dtype;
  if (a.residual) f.residual = a.residual.as<char>() + first * sizeOf(a.residual.dtype), f.residualType = a.residual.dtype;
  f.outStride = f.residualStride = t.stride;
  f.bias = k.bias.as<float>() + begin;
  f.activation = a.activation, f.activationAfterResidual = a.activationAfterResidual;
  f.pixels = count, f.channels = static_cast<int>(channels), f.lanes = k.lanes;
  if (count > 0 && channels > 0) k.kernels->finish(f, acc + from * k.lanes);
}

// What is added to the sums of every group where inputs are bytes, [groups][lanes]: the same for all tiles of a row.
void offsetSums(const Packing& k, const InputRows& rows, int phase, int32_t* offsets) {
  for (int g = 0; g < k.groups; ++g, offsets += k.lanes) {
    std::fill_n(offsets, k.lanes, 0);
    for (int r = 0; r < rows.count; ++r) {
      const int32_t* of = k.offsetOf(phase, g, rows.tap[r]);
      for (int lane = 0; lane < k.lanes; ++lane) offsets[lane] += of[lane];
    }
  }
}

// `data` point at the inputs of the tile's first pixel, one pointer per row; `offsets` are those of the row.
void computeTile(const ConvPlan& p, const InputRows& rows, const void* const* data, const int32_t* offsets, int phase, const OutputTile& t) {
  const Packing& k = p.packing;
  alignas(64) float acc[kMaxTilePixels * kConvLanes];
  const void* weights[kMaxRows];
  for (int g = 0; g < k.groups; ++g) {
    for (int r = 0; r < rows.count; ++r) weights[r] = k.row(phase, g, rows.tap[r]);
    ConvTile tile{data, weights, rows.count, k.run, k.fold * p.stride * k.in};
    if (k.bytes()) tile.offset = offsets + g * k.lanes, tile.scale = k.scale.as<float>() + g * k.lanes;
    k.kernels->accumulate[k.lanes / kConvLanes - 1](tile, acc);
    const int64_t begin = g * k.lanes, channels = std::min<int64_t>(k.lanes, k.channels - begin);
    const bool whole = t.lastChannels == k.channels;
    finishTile(p, t, acc, begin, channels, 0, whole ? t.pixels : t.pixels - 1);
    if (!whole) finishTile(p, t, acc, begin, std::min(channels, t.lastChannels - begin), t.pixels - 1, 1);
  }
}

// Output row y of frame t; with upsampling, every second pixel of it, starting at `column`.
void computeRow(const ConvPlan& p, int64_t t, int64_t y, int column, char* scratch) {
  const Packing& k = p.packing;
  const int step = p.conv.upsample2x ? 2 : 1, oddRow = p.conv.upsample2x ? static_cast<int>(y % 2) : 0;
  const int64_t firstRow = y / step * p.stride - p.padTop + oddRow, firstColumn = column - p.padLeft;
  const InputRows rows = inputRows(p, t, firstRow);
  const int64_t width = p.outWidth / step, columns = (width + k.fold - 1) / k.fold;  // groups of `fold` pixels
  const int64_t lastChannels = k.channels - (columns * k.fold - width) * p.conv.out;
  const int64_t window = k.windowBytes(p.stride);
  const int phase = oddRow * 2 + column;
  int32_t* offsets = reinterpret_cast<int32_t*>(scratch);
  char* windows = scratch + k.biasBytes();
  if (k.bytes()) offsetSums(k, rows, phase, offsets);
  const void* data[kMaxRows];
  for (int64_t x = 0; x < columns; x += k.pixels()) {
    const int64_t begin = (x * k.fold * p.stride + firstColumn) * p.pixelBytes;
    const bool inside = begin >= 0 && begin + window <= p.rowBytes;
    for (int r = 0; r < rows.count; ++r) {
      data[r] = inside ? rows.data[r] + begin : windows + r * window;
      if (!inside) copyWindow(windows + r * window, rows.data[r], p.rowBytes, begin, window, p.conv.code.zero);
    }
    OutputTile tile;
    tile.first = (((t * p.outHeight + y) * p.outWidth) + x * k.fold * step + column) * p.conv.out;
    tile.stride = k.channels * step;
    tile.pixels = static_cast<int>(std::min<int64_t>(k.pixels(), columns - x));
    tile.lastChannels = x + tile.pixels == columns ? lastChannels : k.channels;
    computeTile(p, rows, data, offsets, phase, tile);
  }
}

}  // namespace

DType convInputType(Isa isa, Precision precision, bool bounded) { return kernelsFor(isa, precision, bounded).input; }

ConvSize convSize(Isa isa, Precision precision, int64_t out, int64_t in, int kt, int kh, int kw, bool upsample2x, bool bounded) {
  const PhaseWeights shape{nullptr, nullptr, out, in, kt, kh, kw, upsample2x};
  ConvSize size;
  const auto add = [&](int fold) {
    const Packing p = layout(kernelsFor(isa, precision, bounded), shape, fold);
    size.bytes += AlignedBuffer::rounded(p.weightBytes()) + AlignedBuffer::rounded(p.biasBytes());
    if (p.bytes()) size.bytes += AlignedBuffer::rounded(p.biasBytes()) + AlignedBuffer::rounded(p.offsetBytes());
    size.scratch = std::max(size.scratch, p.scratchBytes(kMaxStride));
  };
  add(1);
  if (const int fold = foldOf(shape); fold > 1) add(fold);
  return size;
}

std::unique_ptr<ConvWeights> packConv(Context& context, Precision precision, const float* weight, const float* bias,
                                      int64_t out, int64_t in, int kt, int kh, int kw, bool upsample2x, Bounds bounds) {
  require(kt * kh <= kMaxRows && kt * kh * kw > 0, "conv: kernel is too large");
  require(!upsample2x || (kh == kw && (kh == 3 || kh == 4)), "conv: upsampling needs a 3x3 or 4x4 kernel");
  auto c = std::make_unique<PackedConv>();
  c->in = in, c->out = out, c->kt = kt, c->kh = kh, c->kw = kw;
  c->upsample2x = upsample2x;
  const ConvKernels& kernels = kernelsFor(context.isa, precision, static_cast<bool>(bounds));
  const PhaseWeights source{weight, bias, out, in, kt, kh, kw, upsample2x};
  c->input = kernels.input;
  if (c->input == DType::U8) {
    c->code.step = (bounds.high - bounds.low) / 254.0f;  // of 255 steps one is for the rounding of `zero`
    c->code.zero = static_cast<uint8_t>(std::clamp(std::ceil(-bounds.low / c->code.step), 0.0f, 255.0f));
  }
  c->plain = pack(context.pool, kernels, source, 1, c->code);
  const int fold = foldOf(source);
  if (fold > 1) c->folded = pack(context.pool, kernels, source, fold, c->code);
  for (const Packing* p : {&c->plain, &c->folded}) {
    if (!p->kernels) continue;
    context.pool.reserveScratch(p->scratchBytes(kMaxStride));
    c->bytes += p->weights.bytes() + p->bias.bytes() + p->scale.bytes() + p->offset.bytes();
  }
  return c;
}

void conv(Context& c, const Backend::ConvArgs& a) {
  const ConvPlan plan(a);
  const int columns = plan.conv.upsample2x ? 2 : 1;
  c.pool.parallelFor(0, plan.outFrames * plan.outHeight, 1, [&](int64_t begin, int64_t end, int thread) {
    char* scratch = static_cast<char*>(c.pool.scratch(thread));
    for (int64_t row = begin; row < end; ++row)
      for (int column = 0; column < columns; ++column)
        computeRow(plan, row / plan.outHeight, row % plan.outHeight, column, scratch);
  }, plan.packing.scratchBytes(plan.stride));
}

}  // namespace longlive::cpu

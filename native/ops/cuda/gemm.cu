// Tensor-core matrix product and convolution (gemm.h) for bf16, int8 and fp8: mma.sync, sm_80 and later (fp8: sm_89).
//
//   tile      128 rows x 32 w columns (w = 1..4) per block of 8 warps, 2 x 4, each 64 x 8 w; accumulators in registers
//   pipeline  k in chunks of 64 bytes (32 bf16, 64 of 8 bits), 4 stages of shared memory filled by cp.async
//   shared    rows of 64 bytes at a stride of 80: the eight rows of any ldmatrix fall into different banks
//   fp8       the products of a chunk are summed by the tensor cores, chunks in F32 (ptx.cuh, multiplyAddFp8)
//   epilogue  scales of 8-bit rows and columns, bias, activation, multiply, gate and residual on the accumulators, with the roundings of spec 2.8
//
// Bound: arithmetic, 2 rows columns depth operations; on sm_90 mma.sync reaches about two thirds of what wgmma does, so
// large products go to cuBLASLt where it can be loaded, and this kernel is the fallback, the convolution, and the test.
#include "device.cuh"
#include "gemm.h"
#include "gemm_device.cuh"
#include "launch.h"
#include "ptx.cuh"

#include <type_traits>

namespace longlive::cuda {
namespace {

constexpr int kRows = 128, kThreads = 256, kStages = 4;
constexpr int kChunkBytes = 64, kStrideBytes = 80, kPieces = kChunkBytes / 16;
constexpr int kWarpRows = 64, kRowTiles = kWarpRows / 16, kColumnWarps = 4;

template <int W> constexpr int kColumns = 32 * W;
template <int W> constexpr int kStageBytes = (kRows + kColumns<W>) * kStrideBytes;
template <int W> constexpr int kTileStride = kColumns<W> + 4;  // floats of a row of sums
template <int W> constexpr bool kTileFits = kRows * kTileStride<W> * 4 <= kStages * kStageBytes<W>;
static_assert(kTileFits<1> && kTileFits<2> && kTileFits<3> && kTileFits<4>);

struct Int8 { int8_t value; };
struct Fp8 { uint8_t bits; };

// Where this thread's pieces of A come from. A thread loads the same 16-byte piece of two rows of every chunk; its tap moves
// on with the chunks, so that no division is left in the loop.
template <class Element> struct RowReader {
  static constexpr int kPiece = 16 / sizeof(Element), kChunk = kChunkBytes / sizeof(Element);
  Window window[2];
  int piece, c, dx = 0, dy = 0, dt = 0;

  __device__ RowReader(const Gather& g, int64_t firstRow, int phase) {
    piece = static_cast<int>(threadIdx.x) % kPieces;
#pragma unroll
    for (int i = 0; i < 2; ++i) window[i] = windowOf(g, firstRow + threadIdx.x / kPieces + i * (kRows / 2), phase);
    c = piece * kPiece;
    normalise(g);
  }
  __device__ void normalise(const Gather& g) {
    while (c >= g.channels) {
      c -= g.channels;
      if (++dx == g.kw) {
        dx = 0;
        if (++dy == g.kh) dy = 0, ++dt;
      }
    }
  }
  // Loads the next chunk.
  __device__ void next(const Gather& g, unsigned char* stage) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const Element* pixel = dt < g.kt ? pixelAt<Element>(g, window[i], dt, dy, dx) : nullptr;
      const int row = static_cast<int>(threadIdx.x) / kPieces + i * (kRows / 2);
      copyAsync16(stage + row * kStrideBytes + piece * 16, pixel ? pixel + c : g.in, pixel != nullptr);
    }
    c += kChunk;
    normalise(g);
  }
};

template <class Element, int W>
__device__ void loadColumns(unsigned char* stage, const Element* b, int64_t stride, int64_t columns, int64_t firstColumn, int64_t chunk) {
  constexpr int kChunk = kChunkBytes / sizeof(Element), kPiece = 16 / sizeof(Element);
#pragma unroll
  for (int i = 0; i < (kColumns<W> * kPieces + kThreads - 1) / kThreads; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    if (at >= kColumns<W> * kPieces) break;
    const int column = at / kPieces, piece = at % kPieces;
    const bool inside = firstColumn + column < columns;
    const Element* from = inside ? b + (firstColumn + column) * stride + chunk * kChunk + piece * kPiece : b;
    copyAsync16(stage + (kRows + column) * kStrideBytes + piece * 16, from, inside);
  }
}

template <class Element, class Sum, int W>
__global__ void __launch_bounds__(kThreads, 2)
gemmKernel(const __grid_constant__ Gather g, const Element* b, int64_t stride, int64_t columns, const __grid_constant__ Output output) {
  followEarlier();
  unsigned char* shared = dynamicShared();
  const int64_t firstRow = static_cast<int64_t>(blockIdx.x) * kRows, firstColumn = static_cast<int64_t>(blockIdx.y) * kColumns<W>;
  const int phase = static_cast<int>(blockIdx.z);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warpRow = warp / kColumnWarps * kWarpRows, warpColumn = warp % kColumnWarps * 8 * W;
  const int64_t chunks = stride / (kChunkBytes / static_cast<int>(sizeof(Element)));
  b += phase * columns * stride;

  RowReader<Element> reader(g, firstRow, phase);
  const auto fill = [&](int64_t chunk) {
    if (chunk < chunks) {
      unsigned char* stage = shared + chunk % kStages * kStageBytes<W>;
      reader.next(g, stage);
      loadColumns<Element, W>(stage, b, stride, columns, firstColumn, chunk);
    }
    commitCopies();  // an empty group keeps the count
  };
  for (int i = 0; i < kStages - 1; ++i) fill(i);

  Sum sum[kRowTiles][W][4] = {};
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    waitCopies<kStages - 2>();
    __syncthreads();  // everybody's copies of this chunk are there, and everybody is done with the stage refilled now
    fill(chunk + kStages - 1);
    const unsigned char* stage = shared + chunk % kStages * kStageBytes<W>;
    uint32_t columnWords[W][4];
#pragma unroll
    for (int n = 0; n < W; ++n) {
      loadMatrices(columnWords[n], stage + (kRows + warpColumn + n * 8 + lane % 8) * kStrideBytes + lane / 8 * 16);
    }
    const auto loadRows = [&](uint32_t (&words)[4], int m, int half) {
      loadMatrices(words, stage + (warpRow + m * 16 + lane / 8 % 2 * 8 + lane % 8) * kStrideBytes + (2 * half + lane / 16) * 16);
    };
    if constexpr (std::is_same_v<Element, Fp8>) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        uint32_t rowWords[2][4];
        loadRows(rowWords[0], m, 0), loadRows(rowWords[1], m, 1);
#pragma unroll
        for (int n = 0; n < W; ++n) {
          float part[4] = {};
#pragma unroll
          for (int half = 0; half < 2; ++half) multiplyAddFp8(part, rowWords[half], columnWords[n][2 * half], columnWords[n][2 * half + 1]);
#pragma unroll
          for (int i = 0; i < 4; ++i) sum[m][n][i] += part[i];
        }
      }
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          uint32_t rowWords[4];
          loadRows(rowWords, m, half);
#pragma unroll
          for (int n = 0; n < W; ++n) multiplyAdd(sum[m][n], rowWords, columnWords[n][2 * half], columnWords[n][2 * half + 1]);
        }
      }
    }
  }

  // The sums change hands through shared memory, so that a thread finishes eight neighbours of a row: 16-byte accesses.
  waitCopies<0>();
  __syncthreads();
  float* tile = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int n = 0; n < W; ++n)
#pragma unroll
      for (int low = 0; low < 2; ++low) {
        *reinterpret_cast<float2*>(tile + (warpRow + m * 16 + low * 8 + lane / 4) * kTileStride<W> + warpColumn + n * 8 + lane % 4 * 2) =
            make_float2(static_cast<float>(sum[m][n][2 * low]), static_cast<float>(sum[m][n][2 * low + 1]));
      }
  __syncthreads();
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kColumns<W> / 8; i += kThreads) {
    const int line = i / (kColumns<W> / 8), part = i % (kColumns<W> / 8) * 8;
    const int64_t row = firstRow + line, column = firstColumn + part;
    if (row >= g.rows() || column >= columns) continue;
    const float* from = tile + line * kTileStride<W> + part;
    const int64_t outRow = outputRow(g, row, phase);
    if (columns % 8 == 0) {
      float x[8];
      load<8>(x, from);
      output.put8(row, outRow, column, columns, x);
    } else {
#pragma unroll 1
      for (int j = 0; j < 8; ++j) output.put(row, outRow, column + j, columns, from[j]);
    }
  }
}

template <class Element, class Sum, int W>
void run(cudaStream_t stream, const Gather& g, const PackedMatrix& b, const Output& output) {
  const dim3 grid(static_cast<unsigned>(ceilDiv(g.rows(), kRows)), static_cast<unsigned>(ceilDiv(b.columns, kColumns<W>)),
                  g.scale == 2 ? 4u : 1u);
  launch("gemm", &gemmKernel<Element, Sum, W>, grid, kThreads, kStages * kStageBytes<W>, stream, g, static_cast<const Element*>(b.data),
         b.stride, b.columns, output);
}

template <class Element, class Sum>
void runTiled(cudaStream_t stream, const Gather& g, const PackedMatrix& b, const Output& output) {
  switch (tileColumns(b.columns)) {
    case 128: return run<Element, Sum, 4>(stream, g, b, output);
    case 96: return run<Element, Sum, 3>(stream, g, b, output);
    case 64: return run<Element, Sum, 2>(stream, g, b, output);
    default: return run<Element, Sum, 1>(stream, g, b, output);
  }
}

}  // namespace

// A device without machine code in this build runs what its driver makes of PTX, which may be that of an older chip.
bool hasFp8() {
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&gemmKernel<Fp8, float, 1>)), "cudaFuncGetAttributes");
  return attributes.ptxVersion >= 89;
}

int tileColumns(int64_t columns) {
  int best = 128;
  for (int tile : {96, 64, 32})
    if (ceilDiv(columns, tile) * tile < ceilDiv(columns, best) * best) best = tile;
  return best;
}

void multiply(cudaStream_t stream, const Gather& a, DType inType, const PackedMatrix& b, const Finish& finish) {
  if (a.rows() == 0) return;
  const Output output = outputOf(finish, b, a.rows());
  switch (b.operand) {
    case Operand::Bf16:
      require(inType == DType::BF16, "gemm: the input must be bf16");
      return runTiled<bf16, float>(stream, a, b, output);
    case Operand::Int8:
      require(inType == DType::I8 && finish.rowScale && b.columnScale, "gemm: int8 needs scales");
      return runTiled<Int8, int32_t>(stream, a, b, output);
    case Operand::Fp8:
      require(inType == DType::F8_E4M3 && finish.rowScale && b.columnScale, "gemm: fp8 needs scales");
      return runTiled<Fp8, float>(stream, a, b, output);
    case Operand::F32: return multiplyPlain(stream, a, inType, b, output);
  }
}

}  // namespace longlive::cuda

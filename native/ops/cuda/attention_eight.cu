// Attention with 8-bit products on tensor cores by mma.sync: S = Q K^T in int8, P V in fp8 where mma.sync has that (sm_89,
// sm_120), else in bf16. The scheme is that of attention.cu; heads of up to 128, padded to 64 or 128.
//
//   means     K_c over the visible keys of every channel, and the largest |V_c|: two small kernels
//   quantize  Q per row and head: q = scale_i a_i;  K per tile of 64 keys and head, smoothed: k - mean = scale_j b_j;  V per
//             channel, transposed, in fp8
//   S         = (a_i . b_j) scale_i scale_j: exact in int32, then F32
//   P         = 2^(S - m + 8), at most 2^8: within fp8's range twice as far down as without the factor, which the sum has too
//   O         the products of a tile are summed by the tensor cores, tiles in F32 (ptx.cuh, multiplyAddFp8)
//
// Smoothing: q . (k - mean) differs from q . k by q . mean, the same for every key, which softmax does not see. What all keys of a
// channel have in common would else take up most of the 8 bits. Values in int8 would lose all keys of less than 1/254 of the
// largest weight, and of 18,720 keys those are most: hence bf16 where there is no fp8.
//
// The keys of V^T lie in the order that P has (eightKeyOf). For Hopper the products are those of attention_eight_sm90.cu, on tiles of 128
// keys; what makes the operands is the same.
//
// Any vector may be taken off the keys, and fp8 has room above the largest value that was seen, so of many keys only every n-th is
// looked at for means and ranges (eightEvery); values beyond the range are clamped.
//
// Bound: arithmetic, half the time of bf16 at the same share of the peak. Quantizing reads K and V once more and writes half of that
// (18,720 keys of 1536: 115 MB + 57 MB).
#include "attention_eight.cuh"
#include "launch.h"
#include "ptx.cuh"

namespace longlive::cuda {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps, kRowTiles = 2, kStages = 2;
constexpr int kQuantizeThreads = 256;
unsigned blocks(int64_t n, int64_t each) { return static_cast<unsigned>(ceilDiv(n, each)); }
static_assert(kEightQueries == 16 * kRowTiles * kWarps);

// -- quantization -----------------------------------------------------------------------------------------------------------

// Sums of K's columns and largest |V| over a chunk of the keys that are looked at. A thread has 8 columns; 8 rows at once.
template <bool Fp8>
__global__ void __launch_bounds__(kQuantizeThreads) columnsKernel(const __grid_constant__ AttentionCall a, const __grid_constant__ EightBitOperands o, int width) {
  followEarlier();
  __shared__ float shared[2][8][kQuantizeThreads];
  const int lane = static_cast<int>(threadIdx.x) % 32, line = static_cast<int>(threadIdx.x) / 32;
  const int column = (static_cast<int>(blockIdx.x) * 32 + lane) * 8;
  const int64_t every = eightEvery(a.keys), seen = (a.keys + every - 1) / every;
  const int64_t chunk = blockIdx.y, begin = seen * chunk / kEightChunks, end = seen * (chunk + 1) / kEightChunks;
  float sum[8] = {}, highest[8] = {}, x[8];
  for (int64_t i = begin + line; i < end && column < width; i += 8) {
    const int64_t at = rowOfKey(a.runs, i * every) * width + column;
    load<8>(x, static_cast<const bf16*>(a.k) + at);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] += x[j];
    if constexpr (Fp8) {
      load<8>(x, static_cast<const bf16*>(a.v) + at);
#pragma unroll
      for (int j = 0; j < 8; ++j) highest[j] = fmaxf(highest[j], fabsf(x[j]));
    }
  }
#pragma unroll
  for (int j = 0; j < 8; ++j) shared[0][line][lane * 8 + j] = sum[j], shared[1][line][lane * 8 + j] = highest[j];
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.x), mine = static_cast<int>(blockIdx.x) * kQuantizeThreads + thread;
  if (mine >= width) return;
  float total = 0, most = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) total += shared[0][i][thread], most = fmaxf(most, shared[1][i][thread]);
  o.sums[chunk * width + mine] = total;
  o.sums[(kEightChunks + chunk) * width + mine] = most;
}

__global__ void __launch_bounds__(kQuantizeThreads) meansKernel(const __grid_constant__ EightBitOperands o, int width, int64_t keys) {
  followEarlier();
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (column >= width) return;
  float total = 0, most = 0;
  for (int i = 0; i < kEightChunks; ++i) {
    total += o.sums[i * width + column];
    most = fmaxf(most, o.sums[(kEightChunks + i) * width + column]);
  }
  const int64_t every = eightEvery(keys), seen = (keys + every - 1) / every;
  const float room = every > 1 ? 8.0f : 1.0f;  // for larger values among those not looked at
  o.mean[column] = total / static_cast<float>(seen);
  o.vScale[column] = most > 0 ? most * room / kE4m3Max : 1.0f;
}

// A warp per row and head of Q; a lane has 4 channels.
template <int D>
__global__ void __launch_bounds__(kQuantizeThreads) queriesKernel(const __grid_constant__ AttentionCall a, const __grid_constant__ EightBitOperands o) {
  followEarlier();
  const int lane = static_cast<int>(threadIdx.x) % 32, head = static_cast<int>(blockIdx.y);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kQuantizeThreads / 32) + threadIdx.x / 32;
  if (row >= a.queries) return;
  float x[4] = {};
  if (lane * 4 < a.headDim) {
    const bf16* from = static_cast<const bf16*>(a.q) + (row * a.heads + head) * a.headDim + lane * 4;
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    x[0] = lowFloat(words.x), x[1] = highFloat(words.x), x[2] = lowFloat(words.y), x[3] = highFloat(words.y);
  }
  const float highest = warpMax(fmaxf(fmaxf(fabsf(x[0]), fabsf(x[1])), fmaxf(fabsf(x[2]), fabsf(x[3]))));
  const float scale = highest > 0 ? highest / 127.0f : 1.0f, inverse = 1.0f / scale;
  const int64_t at = head * a.queries + row;
  if (lane == 0) o.qScale[at] = scale;
  if (lane * 4 < D) *reinterpret_cast<uint32_t*>(o.q + at * D + lane * 4) = packInt8(x[0] * inverse, x[1] * inverse, x[2] * inverse, x[3] * inverse);
}

// A tile of N keys, and of values if in fp8, of one head. Keys behind a short tile become zeros.
template <int D, bool Fp8, int N>
__global__ void __launch_bounds__(kQuantizeThreads) keysKernel(const __grid_constant__ AttentionCall a, const __grid_constant__ EightBitOperands o) {
  followEarlier();
  constexpr int kPieces = D / 8, kLines = kQuantizeThreads / kPieces, kEach = N / kLines;  // a thread has 8 columns of every kLines-th row
  constexpr int kWords = N / 4, kValueWords = D / 2 + 1;
  __shared__ float partial[kQuantizeThreads / 32];
  // Row byte * kWords + word: lanes that want different words of V^T find them in different banks.
  __shared__ uint32_t values[Fp8 ? N : 1][kValueWords];
  const int thread = static_cast<int>(threadIdx.x), head = static_cast<int>(blockIdx.y);
  const int line = thread / kPieces, column = thread % kPieces * 8;
  const int64_t width = static_cast<int64_t>(a.heads) * a.headDim, number = blockIdx.x, headAt = static_cast<int64_t>(head) * a.headDim;
  KeyTiles tile;
  tile.at(a.runs, N, number);
  const auto inside = [&](int row) { return row < tile.count && column < a.headDim; };

  float mean[8] = {}, x[kEach][8] = {}, highest = 0;
  if (column < a.headDim) load<8>(mean, o.mean + headAt + column);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (inside(i * kLines + line)) load<8>(x[i], static_cast<const bf16*>(a.k) + (tile.first + i * kLines + line) * width + headAt + column);
  }
  if constexpr (Fp8) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int row = i * kLines + line;
      uint4 words = {};
      if (inside(row)) words = *reinterpret_cast<const uint4*>(static_cast<const bf16*>(a.v) + (tile.first + row) * width + headAt + column);
      uint32_t* to = &values[eightByteOf(row) * kWords + eightWordOf(row)][column / 2];
      to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      x[i][j] = inside(i * kLines + line) ? x[i][j] - mean[j] : 0.0f;
      highest = fmaxf(highest, fabsf(x[i][j]));
    }
  highest = warpMax(highest);
  if (thread % 32 == 0) partial[thread / 32] = highest;
  __syncthreads();
  for (int w = 0; w < kQuantizeThreads / 32; ++w) highest = fmaxf(highest, partial[w]);
  const float scale = highest > 0 ? highest / 127.0f : 1.0f, inverse = 1.0f / scale;
  const int64_t place = o.page > 0 ? tile.first / o.page * ((o.page + N - 1) / N) + tile.first % o.page / N : number;
  if (thread == 0) o.kScale[head * (o.keyRows / N) + place] = scale;
  int8_t* keys = o.k + (head * o.keyRows + place * N) * D;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const auto pack = [&](int j) { return packInt8(x[i][j] * inverse, x[i][j + 1] * inverse, x[i][j + 2] * inverse, x[i][j + 3] * inverse); };
    *reinterpret_cast<uint2*>(keys + (i * kLines + line) * D + column) = make_uint2(pack(0), pack(4));
  }
  if constexpr (Fp8) {
    for (int at = thread; at < D / 2 * kWords; at += kQuantizeThreads) {  // a word of two neighbouring rows of V^T
      const int word = at % kWords, pair = at / kWords;
      float by[2] = {};
      if (2 * pair < a.headDim) load<2>(by, o.vScale + headAt + 2 * pair);
      uint32_t two[4];
#pragma unroll
      for (int byte = 0; byte < 4; ++byte) two[byte] = values[byte * kWords + word][pair];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float inverse = by[half] > 0 ? 1.0f / by[half] : 0.0f;
        const auto value = [&](int byte) { return (half ? highFloat(two[byte]) : lowFloat(two[byte])) * inverse; };
        *reinterpret_cast<uint32_t*>(o.v + (static_cast<int64_t>(head) * D + 2 * pair + half) * o.keyRows + place * N + word * 4) =
            packFp8(value(0), value(1), value(2), value(3));
      }
    }
  }
}

// -- the products -----------------------------------------------------------------------------------------------------------

template <int D, bool Fp8> struct Layout {
  static constexpr int kRowBytes = D + 16;                                             // of Q and K
  static constexpr int kValueRows = Fp8 ? D : kEightKeys;                              // V^T in fp8, V in bf16
  static constexpr int kValueBytes = (Fp8 ? kEightKeys : 2 * D) + 16;
  static constexpr int kStageBytes = kEightKeys * kRowBytes + kValueRows * kValueBytes;
  static constexpr int kShared = kEightQueries * kRowBytes + kStages * kStageBytes;
};

// `rows` rows of Pieces pieces of 16 bytes, `stride` bytes apart, into shared memory; what is behind `rows` and `used` reads as zeros.
template <int Rows, int Pieces>
__device__ __forceinline__ void copyBytes(unsigned char* to, int rowBytes, const void* from, int64_t stride, int64_t rows, int used) {
  for (int i = static_cast<int>(threadIdx.x); i < Rows * Pieces; i += kThreads) {
    const int row = i / Pieces, piece = i % Pieces;
    const bool inside = row < rows && piece < used;
    copyAsync16(to + row * rowBytes + piece * 16, inside ? static_cast<const unsigned char*>(from) + row * stride + piece * 16 : from, inside);
  }
}

template <int D, bool Fp8>
__global__ void __launch_bounds__(kThreads) eightBitKernel(const __grid_constant__ AttentionCall a, const __grid_constant__ EightBitOperands o) {
  followEarlier();
  using L = Layout<D, Fp8>;
  constexpr int R = kRowTiles, N = kEightKeys;
  unsigned char* queries = dynamicShared();
  unsigned char* stages = queries + kEightQueries * L::kRowBytes;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32, head = static_cast<int>(blockIdx.y);
  const int64_t width = static_cast<int64_t>(a.heads) * a.headDim, firstQuery = static_cast<int64_t>(blockIdx.x) * kEightQueries;
  const int64_t headAt = static_cast<int64_t>(head) * a.headDim;

  KeyTiles loading, tile;
  const auto fill = [&](int64_t i) {
    if (i < o.tiles) {
      loading.next(a.runs, N);
      unsigned char* stage = stages + i % kStages * L::kStageBytes;
      unsigned char* values = stage + N * L::kRowBytes;
      copyBytes<N, D / 16>(stage, L::kRowBytes, o.k + (head * o.keyRows + i * N) * D, D, N, D / 16);
      if constexpr (Fp8) {
        copyBytes<D, N / 16>(values, L::kValueBytes, o.v + static_cast<int64_t>(head) * D * o.keyRows + i * N, o.keyRows, D, N / 16);
      } else {
        copyBytes<N, D / 8>(values, L::kValueBytes, static_cast<const bf16*>(a.v) + loading.first * width + headAt, 2 * width, loading.count, a.headDim / 8);
      }
    }
    commitCopies();
  };
  copyBytes<kEightQueries, D / 16>(queries, L::kRowBytes, o.q + (head * a.queries + firstQuery) * D, D, a.queries - firstQuery, D / 16);
  for (int i = 0; i < kStages - 1; ++i) fill(i);

  float out[R][D / 8][4] = {}, maximum[R][2], sum[R][2] = {}, rowScale[R][2];
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      const int64_t query = firstQuery + (warp * R + r) * 16 + low * 8 + lane / 4;
      maximum[r][low] = -INFINITY;
      rowScale[r][low] = query < a.queries ? o.qScale[head * a.queries + query] * (a.scale * kLog2e) : 1.0f;
    }

  for (int64_t i = 0; i < o.tiles; ++i) {
    fill(i + kStages - 1);
    waitCopies<kStages - 1>();
    __syncthreads();
    tile.next(a.runs, N);
    const unsigned char* keys = stages + i % kStages * L::kStageBytes;
    const unsigned char* values = keys + N * L::kRowBytes;
    const float keyScale = o.kScale[head * (o.keyRows / N) + i];

    int32_t dot[R][N / 8][4];
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int n = 0; n < N / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) dot[r][n][e] = kMagicBits;
#pragma unroll
    for (int step = 0; step < D / 32; ++step) {
      uint32_t rows[R][4];
#pragma unroll
      for (int r = 0; r < R; ++r) {
        loadMatrices(rows[r], queries + ((warp * R + r) * 16 + lane / 8 % 2 * 8 + lane % 8) * L::kRowBytes + step * 32 + lane / 16 * 16);
      }
#pragma unroll
      for (int n = 0; n < N / 16; ++n) {
        uint32_t columns[4];
        loadMatrices(columns, keys + (n * 16 + lane / 16 * 8 + lane % 8) * L::kRowBytes + step * 32 + lane / 8 % 2 * 16);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          multiplyAdd(dot[r][2 * n], rows[r], columns[0], columns[1]);
          multiplyAdd(dot[r][2 * n + 1], rows[r], columns[2], columns[3]);
        }
      }
    }

    uint32_t weights[R][Fp8 ? N / 32 : N / 16][4];  // P as the second product takes it
    float shrink[R][2];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      float s[N / 8][4];
#pragma unroll
      for (int n = 0; n < N / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          s[n][e] = __uint_as_float(static_cast<uint32_t>(dot[r][n][e])) - kMagic;
          if (tile.count < N && n * 8 + lane % 4 * 2 + e % 2 >= tile.count) s[n][e] = -INFINITY;
        }
#pragma unroll
      for (int low = 0; low < 2; ++low) {  // rows g and g + 8; four lanes share a row
        float highest = -INFINITY;
#pragma unroll
        for (int n = 0; n < N / 8; ++n) highest = fmaxf(highest, fmaxf(s[n][2 * low], s[n][2 * low + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
        const float scale = rowScale[r][low] * keyScale;
        highest = fmaxf(maximum[r][low], highest * scale);
        shrink[r][low] = exp2Fast(maximum[r][low] - highest);
        maximum[r][low] = highest;
        const float offset = highest - kWeightBits;
        float part = 0;
#pragma unroll
        for (int n = 0; n < N / 8; ++n)
#pragma unroll
          for (int e = 2 * low; e < 2 * low + 2; ++e) part += s[n][e] = exp2Fast(s[n][e] * scale - offset);
        sum[r][low] = sum[r][low] * shrink[r][low] + part;
      }
      if constexpr (Fp8) {
#pragma unroll
        for (int step = 0; step < N / 32; ++step)
#pragma unroll
          for (int w = 0; w < 4; ++w) {  // rows g, g + 8, then the same of the other 16 keys
            const auto &first = s[4 * step + w / 2 * 2], &second = s[4 * step + w / 2 * 2 + 1];
            const int e = w % 2 * 2;
            weights[r][step][w] = packFp8(first[e], first[e + 1], second[e], second[e + 1]);
          }
      } else {
#pragma unroll
        for (int step = 0; step < N / 16; ++step)
#pragma unroll
          for (int w = 0; w < 4; ++w) {
            const int n = 2 * step + w / 2, e = w % 2 * 2;
            weights[r][step][w] = packBf16(s[n][e], s[n][e + 1]);
          }
      }
    }

#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      float part[R][2][4] = {};
#pragma unroll
      for (int step = 0; step < (Fp8 ? N / 32 : N / 16); ++step) {
        uint32_t columns[4];
        if constexpr (Fp8) {
          loadMatrices(columns, values + (n * 16 + lane / 16 * 8 + lane % 8) * L::kValueBytes + step * 32 + lane / 8 % 2 * 16);
        } else {
          loadMatrices<true>(columns, values + (step * 16 + lane / 8 % 2 * 8 + lane % 8) * L::kValueBytes + n * 32 + lane / 16 * 16);
        }
#pragma unroll
        for (int r = 0; r < R; ++r) {
          if constexpr (Fp8) {
            multiplyAddFp8(part[r][0], weights[r][step], columns[0], columns[1]);
            multiplyAddFp8(part[r][1], weights[r][step], columns[2], columns[3]);
          } else {
            multiplyAdd(part[r][0], weights[r][step], columns[0], columns[1]);
            multiplyAdd(part[r][1], weights[r][step], columns[2], columns[3]);
          }
        }
      }
#pragma unroll
      for (int r = 0; r < R; ++r)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int e = 0; e < 4; ++e) out[r][2 * n + half][e] = out[r][2 * n + half][e] * shrink[r][e / 2] + part[r][half][e];
    }
    __syncthreads();  // the stage may be refilled
  }

#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int low = 0; low < 2; ++low) {
      float total = sum[r][low];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      const float inverse = 1.0f / total;
      const int64_t query = firstQuery + (warp * R + r) * 16 + low * 8 + lane / 4;
      if (query >= a.queries) continue;
      bf16* row = static_cast<bf16*>(a.out) + query * width + headAt;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        const int column = n * 8 + lane % 4 * 2;
        if (column >= a.headDim) continue;
        float scale[2] = {1.0f, 1.0f};
        if constexpr (Fp8) load<2>(scale, o.vScale + headAt + column);
        *reinterpret_cast<uint32_t*>(row + column) = packBf16(out[r][n][2 * low] * inverse * scale[0], out[r][n][2 * low + 1] * inverse * scale[1]);
      }
    }
}

template <int D>
void makeQueries(cudaStream_t stream, const AttentionCall& a, const EightBitOperands& o) {
  launch("attention: queries", &queriesKernel<D>, dim3(blocks(a.queries, kQuantizeThreads / 32), static_cast<unsigned>(a.heads)), kQuantizeThreads, 0, stream, a, o);
}

template <int D, bool Fp8, int N>
void makeKeys(cudaStream_t stream, const AttentionCall& a, const EightBitOperands& o, bool anew) {
  const int width = a.heads * a.headDim;
  if (anew) {
    launch("attention: columns", &columnsKernel<Fp8>, dim3(blocks(width, kQuantizeThreads), kEightChunks), kQuantizeThreads, 0, stream, a, o, width);
    launch("attention: means", &meansKernel, dim3(blocks(width, kQuantizeThreads)), kQuantizeThreads, 0, stream, o, width, a.keys);
  }
  const dim3 grid(static_cast<unsigned>(a.runs.tiles(N)), static_cast<unsigned>(a.heads));
  launch("attention: keys", &keysKernel<D, Fp8, N>, grid, kQuantizeThreads, 0, stream, a, o);
}

template <int D, bool Fp8>
void multiply(cudaStream_t stream, const AttentionCall& a, const EightBitOperands& o) {
  const dim3 grid(blocks(a.queries, kEightQueries), static_cast<unsigned>(a.heads));
  launch("attention: 8-bit", &eightBitKernel<D, Fp8>, grid, kThreads, Layout<D, Fp8>::kShared, stream, a, o);
}

// Calls f<D, Fp8, N>() for a kernel and a head.
template <class F>
void forFormat(const EightBitFormat& format, int64_t headDim, F f) {
  if (format.kernel == EightBitKernel::Hopper) return f.template operator()<128, true, kEightKeysHopper>();
  if (eightBitHeadBytes(headDim) == 64) format.fp8 ? f.template operator()<64, true, kEightKeys>() : f.template operator()<64, false, kEightKeys>();
  else format.fp8 ? f.template operator()<128, true, kEightKeys>() : f.template operator()<128, false, kEightKeys>();
}

void placeKeys(EightBitOperands& o, const EightBitKeysLayout& l, void* memory) {
  char* at = static_cast<char*>(memory);
  const auto floats = [&](size_t offset) { return reinterpret_cast<float*>(at + offset); };
  o.k = reinterpret_cast<int8_t*>(at + l.k), o.v = reinterpret_cast<uint8_t*>(at + l.v);
  o.kScale = floats(l.kScale), o.mean = floats(l.mean), o.vScale = floats(l.vScale), o.keyRows = l.keyRows;
}

EightBitKeysLayout layoutOf(const KeptKeys& kept, const Tensor& k, int64_t heads, const EightBitFormat& format) {
  const int64_t width = k.shape[-1];
  const EightBitKeysLayout l = layoutKept(k.elements() / width, kept.page, heads, width / heads, format);
  require(kept.bytes.elements() >= static_cast<int64_t>(l.bytes), "attention: what is kept of keys wants more memory");
  return l;
}

}  // namespace

bool fitsEightBitHopper(int64_t headDim) { return hasEightBitHopper() && headDim == 128; }

void keepEightBit(cudaStream_t stream, const KeptKeys& out, const Tensor& k, const Tensor& v, int64_t heads, uint32_t pages, int64_t rows, bool anew,
                  const EightBitFormat& format, void* scratch) {
  const int64_t width = k.shape[-1];
  AttentionCall a{};
  a.k = k.data, a.v = v.data, a.heads = static_cast<int>(heads), a.headDim = static_cast<int>(width / heads);
  require(rows <= k.elements() / width, "attention: not rows of the buffer");
  a.runs = planPages(pages, out.page, rows), a.keys = a.runs.total;
  EightBitOperands o{};
  placeKeys(o, layoutOf(out, k, heads, format), out.bytes.data);
  o.page = out.page, o.sums = static_cast<float*>(scratch);
  forFormat(format, a.headDim, [&]<int D, bool Fp8, int N>() { makeKeys<D, Fp8, N>(stream, a, o, anew); });
}

void attentionEightBit(cudaStream_t stream, const SelfAttention& args, const EightBitFormat& format, const EightBitLayout& l, void* scratch, const Workspace& workspace) {
  AttentionCall a = attentionCall(args);
  if (a.queries == 0) return;
  require(args.qScale ? args.q.dtype == DType::I8 && args.qScale.elements() == a.queries * a.heads : args.q.dtype != DType::I8,
          "attention: queries in bytes come with scales");
  char* memory = static_cast<char*>(scratch);
  EightBitOperands o{};
  o.q = args.qScale ? args.q.as<int8_t>() : reinterpret_cast<int8_t*>(memory + l.q);
  o.qScale = args.qScale ? args.qScale.as<float>() : reinterpret_cast<float*>(memory + l.qScale);
  o.sums = reinterpret_cast<float*>(memory + l.sums);
  if (args.kept) {
    placeKeys(o, layoutOf(args.kept, args.k, args.heads, format), args.kept.bytes.data);
    const int64_t rows = firstRows(args.visible);
    require(rows > 0, "attention: kept keys are the buffers' first rows");
    a.runs = planPages(kAllPages, args.kept.page, rows);
  } else {
    placeKeys(o, l.made, memory + l.keys);
  }
  o.tiles = a.runs.tiles(format.tileKeys());
  require(o.tiles * format.tileKeys() <= o.keyRows, "attention: the layout is for fewer keys");
  forFormat(format, a.headDim, [&]<int D, bool Fp8, int N>() {
    if (!args.kept) makeKeys<D, Fp8, N>(stream, a, o, true);
    if (!args.qScale) makeQueries<D>(stream, a, o);
    if constexpr (N == kEightKeysHopper) eightBitHopper(stream, a, o, workspace);
    else multiply<D, Fp8>(stream, a, o);
  });
}

}  // namespace longlive::cuda

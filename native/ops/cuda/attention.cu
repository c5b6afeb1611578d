// Attention in bf16 on tensor cores by mma.sync (sm_80 and later): out = softmax(scale Q K^T + bias) V, per head.
//
// A block of 4 warps owns 64 R queries of one head and walks over tiles of visible keys (the scheme of FlashAttention-2):
//   S = Q K^T          16 R x keys per warp, in registers
//   online softmax     m' = max(m, max S), P = 2^((S - m') scale log2 e), l = l 2^((m - m') ...) + sum P, rounded to bf16
//   O = O 2^(...) + P V    P goes from the accumulators of the first product straight into the operands of the second
// The next tile of K and V is copied (cp.async) while this one is multiplied. Ranges of keys are runs of tiles; what a
// short tile lacks is masked. Rows lie in shared memory 16 bytes further apart than they are long: no ldmatrix conflicts.
//
// Heads of up to 128 in whole pieces of 16 bytes; wider ones (the VAE's single head of 384) are computed in slices of 128
// value columns, each block repeating Q K^T.
//
// Bound: arithmetic, 4 queries keys headDim operations per head, and keys queries exponentials on the special function
// unit. Two row tiles per warp (R = 2) halve the shared memory traffic of K and V, which would be the limit with one.
#include "attention_device.cuh"
#include "launch.h"
#include "ptx.cuh"

namespace longlive::cuda {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;

// D: head width of Q and K, padded; DV: value columns per block; R: row tiles of 16 per warp; N: keys per tile.
template <int D, int DV, int R, int N, int Stages> struct Layout {
  static constexpr int kQueries = 16 * R * kWarps;
  static constexpr int kRowBytes = 2 * D + 16, kValueBytes = 2 * DV + 16;
  static constexpr int kStageBytes = N * (kRowBytes + kValueBytes);
  static constexpr int kShared = kQueries * kRowBytes + Stages * kStageBytes;
};

// Rows of `pieces` pieces of 16 bytes into shared memory; rows from `rows` on and pieces from `used` on read as zeros.
template <int Rows, int Pieces>
__device__ __forceinline__ void copyRows(unsigned char* to, int rowBytes, const bf16* from, int64_t width, int64_t rows, int used) {
  for (int i = static_cast<int>(threadIdx.x); i < Rows * Pieces; i += kThreads) {
    const int row = i / Pieces, piece = i % Pieces;
    const bool inside = row < rows && piece < used;
    copyAsync16(to + row * rowBytes + piece * 16, inside ? from + row * width + piece * 8 : from, inside);
  }
}

// What a warp has of its R tiles of 16 queries: the online softmax over the tiles of keys so far.
template <int D, int DV, int R, int N> struct WarpRows {
  static constexpr int kRowBytes = 2 * D + 16, kValueBytes = 2 * DV + 16;
  float out[R][DV / 8][4] = {}, maximum[R][2], sum[R][2] = {};

  __device__ __forceinline__ WarpRows() {
#pragma unroll
    for (int r = 0; r < R; ++r) maximum[r][0] = maximum[r][1] = -INFINITY;
  }

  // A tile of keys and values in shared memory; `queries` are the warp's there, the first of them `firstQuery`.
  __device__ __forceinline__ void add(const AttentionCall& a, int head, int64_t firstQuery, const unsigned char* queries, const unsigned char* keys,
                                      const unsigned char* values, const KeyTiles& tile) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const float scale2 = a.scale * kLog2e;
    float s[R][N / 8][4] = {};
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t rows[R][4];
#pragma unroll
      for (int r = 0; r < R; ++r) loadMatrices(rows[r], queries + (r * 16 + lane / 8 % 2 * 8 + lane % 8) * kRowBytes + step * 32 + lane / 16 * 16);
#pragma unroll
      for (int n = 0; n < N / 16; ++n) {
        uint32_t columns[4];
        loadMatrices(columns, keys + (n * 16 + lane / 16 * 8 + lane % 8) * kRowBytes + step * 32 + lane / 8 % 2 * 16);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          multiplyAdd(s[r][2 * n], rows[r], columns[0], columns[1]);
          multiplyAdd(s[r][2 * n + 1], rows[r], columns[2], columns[3]);
        }
      }
    }

    // What is not the bare product: biases, in units of the unscaled logits, and the mask of a short tile.
    if (a.bias || tile.count < N || tile.seen == a.keys) {
#pragma unroll
      for (int r = 0; r < R; ++r)
#pragma unroll
        for (int n = 0; n < N / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int key = n * 8 + lane % 4 * 2 + e % 2;
            const int64_t query = firstQuery + r * 16 + e / 2 * 8 + lane / 4, index = tile.index + key;
            if (a.bias && key < tile.count && query < a.queries) s[r][n][e] += a.biasOf(head, query, index) / a.scale;
            if (index == a.keys - 1) s[r][n][e] += a.lastKeyLogBias / a.scale;
            if (key >= tile.count) s[r][n][e] = -INFINITY;
          }
    }

#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int low = 0; low < 2; ++low) {  // rows g and g + 8; four lanes share a row
        float highest = maximum[r][low];
#pragma unroll
        for (int n = 0; n < N / 8; ++n) highest = fmaxf(highest, fmaxf(s[r][n][2 * low], s[r][n][2 * low + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
        const float shrink = exp2Fast((maximum[r][low] - highest) * scale2), offset = highest * scale2;
        maximum[r][low] = highest;
        float part = 0;
#pragma unroll
        for (int n = 0; n < N / 8; ++n)
#pragma unroll
          for (int e = 2 * low; e < 2 * low + 2; ++e) part += s[r][n][e] = exp2Fast(s[r][n][e] * scale2 - offset);
        sum[r][low] = sum[r][low] * shrink + part;
#pragma unroll
        for (int n = 0; n < DV / 8; ++n) out[r][n][2 * low] *= shrink, out[r][n][2 * low + 1] *= shrink;
      }

#pragma unroll
    for (int step = 0; step < N / 16; ++step) {
      uint32_t rows[R][4];
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const auto &first = s[r][2 * step], &second = s[r][2 * step + 1];
        rows[r][0] = packBf16(first[0], first[1]), rows[r][1] = packBf16(first[2], first[3]);
        rows[r][2] = packBf16(second[0], second[1]), rows[r][3] = packBf16(second[2], second[3]);
      }
#pragma unroll
      for (int n = 0; n < DV / 16; ++n) {
        uint32_t columns[4];
        loadMatrices<true>(columns, values + (step * 16 + lane / 8 % 2 * 8 + lane % 8) * kValueBytes + n * 32 + lane / 16 * 16);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          multiplyAdd(out[r][2 * n], rows[r], columns[0], columns[1]);
          multiplyAdd(out[r][2 * n + 1], rows[r], columns[2], columns[3]);
        }
      }
    }
  }

  // `to`: where the first query's row of this head begins, of `width` elements; `pieces` of 16 bytes of each are written.
  __device__ __forceinline__ void write(bf16* to, int64_t width, int64_t firstQuery, int64_t queries, int pieces) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int low = 0; low < 2; ++low) {
        float total = sum[r][low];
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        const float inverse = 1.0f / total;
        const int64_t query = firstQuery + r * 16 + low * 8 + lane / 4;
#pragma unroll
        for (int part = 0; part < DV / 32; ++part) {
          uint32_t words[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) words[j] = packBf16(out[r][part * 4 + j][2 * low] * inverse, out[r][part * 4 + j][2 * low + 1] * inverse);
          exchange(words, lane % 4);
          const int piece = part * 4 + lane % 4;
          if (query < queries && piece < pieces) *reinterpret_cast<uint4*>(to + query * width + piece * 8) = make_uint4(words[0], words[1], words[2], words[3]);
        }
      }
  }
};

template <int D, int DV, int R, int N, int Stages>
__global__ void __launch_bounds__(kThreads) flashKernel(const __grid_constant__ AttentionCall a, int64_t tiles) {
  followEarlier();
  using L = Layout<D, DV, R, N, Stages>;
  unsigned char* queries = dynamicShared();
  unsigned char* stages = queries + L::kQueries * L::kRowBytes;
  const int warp = static_cast<int>(threadIdx.x) / 32, head = static_cast<int>(blockIdx.y);
  const int64_t width = static_cast<int64_t>(a.heads) * a.headDim, firstQuery = static_cast<int64_t>(blockIdx.x) * L::kQueries;
  const int64_t headAt = static_cast<int64_t>(head) * a.headDim;
  const int slice = static_cast<int>(blockIdx.z) * DV;
  const int valuePieces = (a.headDim - slice) / 8 < DV / 8 ? (a.headDim - slice) / 8 : DV / 8;

  KeyTiles loading, tile;
  const auto fill = [&](int64_t i) {
    if (i < tiles) {
      loading.next(a.runs, N);
      unsigned char* stage = stages + i % Stages * L::kStageBytes;
      const int64_t at = loading.first * width + headAt;
      copyRows<N, D / 8>(stage, L::kRowBytes, static_cast<const bf16*>(a.k) + at, width, loading.count, a.headDim / 8);
      copyRows<N, DV / 8>(stage + N * L::kRowBytes, L::kValueBytes, static_cast<const bf16*>(a.v) + at + slice, width, loading.count, valuePieces);
    }
    commitCopies();
  };
  copyRows<L::kQueries, D / 8>(queries, L::kRowBytes, static_cast<const bf16*>(a.q) + firstQuery * width + headAt, width,
                               a.queries - firstQuery, a.headDim / 8);  // part of the first group
  for (int i = 0; i < Stages - 1; ++i) fill(i);

  WarpRows<D, DV, R, N> rows;
  for (int64_t i = 0; i < tiles; ++i) {
    fill(i + Stages - 1);
    waitCopies<Stages - 1>();
    __syncthreads();
    tile.next(a.runs, N);
    const unsigned char* keys = stages + i % Stages * L::kStageBytes;
    rows.add(a, head, firstQuery + warp * R * 16, queries + warp * R * 16 * L::kRowBytes, keys, keys + N * L::kRowBytes, tile);
    __syncthreads();  // the stage may be refilled
  }
  rows.write(static_cast<bf16*>(a.out) + headAt + slice, width, firstQuery + warp * R * 16, a.queries, valuePieces);
}

template <int D, int DV, int R, int N, int Stages>
void run(cudaStream_t stream, const AttentionCall& a) {
  using L = Layout<D, DV, R, N, Stages>;
  const dim3 grid(static_cast<unsigned>(ceilDiv(a.queries, L::kQueries)), static_cast<unsigned>(a.heads), static_cast<unsigned>(ceilDiv(a.headDim, DV)));
  launch("attention", &flashKernel<D, DV, R, N, Stages>, grid, kThreads, L::kShared, stream, a, a.runs.tiles(N));
}

// -- few keys ---------------------------------------------------------------------------------------------------------------
// A prompt's keys fit into shared memory, and what takes time is to read queries and to write: a block keeps the keys, and copies its next tile
// of queries while it works on one. Bound: memory; three blocks of a multiprocessor hide each other's latencies.

constexpr int kFewTile = 64;  // of keys, and of queries
template <int D, int Tiles> struct FewLayout {
  static constexpr int kRowBytes = 2 * D + 16, kTileBytes = kFewTile * kRowBytes;
  static constexpr int kKeysAt = 2 * kTileBytes, kShared = kKeysAt + 2 * Tiles * kTileBytes;  // two tiles of queries; of each tile of keys K and V
  static constexpr int kBlocks = Tiles == 1 ? 3 : 2;                                          // of a multiprocessor
};

// `each`: tiles of queries that a block has.
template <int D, int Tiles>
__global__ void __launch_bounds__(kThreads, FewLayout<D, Tiles>::kBlocks) fewKeysKernel(const __grid_constant__ AttentionCall a, int each) {
  followEarlier();
  using L = FewLayout<D, Tiles>;
  unsigned char *queries = dynamicShared(), *keys = queries + L::kKeysAt;
  const int warp = static_cast<int>(threadIdx.x) / 32, head = static_cast<int>(blockIdx.y), pieces = a.headDim / 8;
  const int64_t width = static_cast<int64_t>(a.heads) * a.headDim, headAt = static_cast<int64_t>(head) * a.headDim;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * each * kFewTile;
  const int64_t end = begin + each * kFewTile < a.queries ? begin + each * kFewTile : a.queries;
  const auto copyTile = [&](unsigned char* to, const void* from, int64_t row, int64_t rows) {
    copyRows<kFewTile, D / 8>(to, L::kRowBytes, static_cast<const bf16*>(from) + row * width + headAt, width, rows, pieces);
  };

  const int tiles = a.keys > kFewTile ? 2 : 1;
  KeyTiles tile[Tiles];
#pragma unroll
  for (int i = 0; i < Tiles; ++i) {
    if (i > 0) tile[i] = tile[i - 1];
    if (i >= tiles) continue;
    tile[i].next(a.runs, kFewTile);
    copyTile(keys + 2 * i * L::kTileBytes, a.k, tile[i].first, tile[i].count);
    copyTile(keys + (2 * i + 1) * L::kTileBytes, a.v, tile[i].first, tile[i].count);
  }
  copyTile(queries, a.q, begin, end - begin);
  commitCopies();
  int stage = 0;
  for (int64_t first = begin; first < end; first += kFewTile, stage ^= 1) {
    if (first + kFewTile < end) copyTile(queries + (stage ^ 1) * L::kTileBytes, a.q, first + kFewTile, end - first - kFewTile);
    commitCopies();
    waitCopies<1>();
    __syncthreads();
    WarpRows<D, D, 1, kFewTile> rows;
#pragma unroll
    for (int i = 0; i < Tiles; ++i) {
      const unsigned char* at = keys + 2 * i * L::kTileBytes;
      if (i < tiles) rows.add(a, head, first + warp * 16, queries + stage * L::kTileBytes + warp * 16 * L::kRowBytes, at, at + L::kTileBytes, tile[i]);
    }
    rows.write(static_cast<bf16*>(a.out) + headAt, width, first + warp * 16, end, pieces);
    __syncthreads();  // the stage may be refilled
  }
}

template <int D, int Tiles>
void runFewKeys(cudaStream_t stream, const AttentionCall& a) {
  using L = FewLayout<D, Tiles>;
  const int64_t tiles = ceilDiv(a.queries, kFewTile), each = ceilDiv(tiles * a.heads, int64_t{multiprocessors()} * L::kBlocks);
  launch("attention: few keys", &fewKeysKernel<D, Tiles>, dim3(static_cast<unsigned>(ceilDiv(tiles, each)), static_cast<unsigned>(a.heads)), kThreads, L::kShared, stream,
         a, static_cast<int>(each));
}

constexpr int kJoined = 8;  // queries that a block puts together

// A warp per query, four columns per lane.
__global__ void __launch_bounds__(kJoined * 32) joinKernel(const __grid_constant__ AttentionCall a, const __grid_constant__ AttentionSchedule schedule,
                                                           const __grid_constant__ AttentionParts parts, float scale2, const float* valueScale) {
  followEarlier();
  constexpr int kHead = AttentionParts::kHead;
  const int unit = static_cast<int>(blockIdx.x), rank = static_cast<int>(blockIdx.z);
  const AttentionPlace at = schedule.cutPlace(unit, rank);
  const int row = static_cast<int>(blockIdx.y) * kJoined + static_cast<int>(threadIdx.x) / 32, column = static_cast<int>(threadIdx.x) % 32 * 4;
  const int64_t query = static_cast<int64_t>(at.queryTile) * AttentionParts::kQueries + row;
  if (query >= a.queries || (!at.paired && rank > 0)) return;
  float highest = -INFINITY, total = 0, x[4] = {};
  const auto add = [&](int slot, int of) {
    const int64_t place = AttentionParts::row(slot, of, row);
    const float2 part = parts.rows[place];
    const float4 y = *reinterpret_cast<const float4*>(parts.sums + place * kHead + column);
    const float higher = fmaxf(highest, part.x), before = exp2Fast((highest - higher) * scale2), weight = exp2Fast((part.x - higher) * scale2);
    highest = higher, total = total * before + part.y * weight;
    x[0] = x[0] * before + y.x * weight, x[1] = x[1] * before + y.y * weight;
    x[2] = x[2] * before + y.z * weight, x[3] = x[3] * before + y.w * weight;
  };
  schedule.eachSlot(unit, [&](int slot) {
    add(slot, rank);
    if (!at.paired) add(slot, 1);
  });
  const float inverse = 1.0f / total;
  float4 scale = make_float4(inverse, inverse, inverse, inverse);
  if (valueScale) {
    const float4 v = *reinterpret_cast<const float4*>(valueScale + at.head * kHead + column);
    scale = make_float4(v.x * inverse, v.y * inverse, v.z * inverse, v.w * inverse);
  }
  bf16* to = static_cast<bf16*>(a.out) + (query * a.heads + at.head) * kHead + column;
  *reinterpret_cast<uint2*>(to) = make_uint2(packBf16(x[0] * scale.x, x[1] * scale.y), packBf16(x[2] * scale.z, x[3] * scale.w));
}

}  // namespace

void joinParts(cudaStream_t stream, const AttentionCall& a, const AttentionSchedule& schedule, const AttentionParts& parts, float scale2, const float* valueScale) {
  launch("attention: parts", &joinKernel, dim3(static_cast<unsigned>(schedule.cutUnits()), AttentionParts::kQueries / kJoined, kAttentionPair), kJoined * 32, 0, stream, a,
         schedule, parts, scale2, valueScale);
}

bool attentionPortable(cudaStream_t stream, const AttentionCall& a) {
  if (a.headDim % 8 != 0 || a.headDim > 384 || !(a.scale > 0)) return false;
  if (a.headDim <= 32) run<32, 32, 2, 64, 2>(stream, a);
  else if (a.headDim <= 64) run<64, 64, 2, 64, 2>(stream, a);
  else if (a.headDim <= 96) run<96, 96, 2, 64, 2>(stream, a);
  else if (a.headDim <= 128 && a.keys <= kFewTile && a.runs.size == 1) runFewKeys<128, 1>(stream, a);
  else if (a.headDim <= 128 && a.keys <= kFewKeys && a.runs.size == 1) runFewKeys<128, 2>(stream, a);
  else if (a.headDim <= 128) Layout<128, 128, 2, 64, 2>::kShared <= sharedLimit() ? run<128, 128, 2, 64, 2>(stream, a) : run<128, 128, 2, 48, 2>(stream, a);
  else run<384, 128, 1, 32, 1>(stream, a);
  return true;
}

AttentionCall attentionCall(const AttentionArgs& args) {
  const int64_t width = args.q.shape[-1], queries = rowsOf(args.q), rows = rowsOf(args.k);
  require(args.heads > 0 && width % args.heads == 0 && args.k.shape[-1] == width && args.v.shape[-1] == width &&
              args.out.shape[-1] == width && rowsOf(args.out) == queries && rowsOf(args.v) >= rows,
          "attention: shapes do not match");
  require(isFloat(args.out) && args.out.dtype == args.k.dtype && args.out.dtype == args.v.dtype, "attention: k, v and out must have one type");
  require(args.q.dtype == args.out.dtype || args.q.dtype == DType::I8, "attention: q must have their type, or be bytes (SelfAttention)");
  AttentionCall a{};
  a.runs = planKeys(args.visible, rows);
  require(!args.bias || (args.bias.dtype == DType::F32 && args.bias.elements() == args.heads * (queries + a.runs.total - 1)),
          "attention: the bias must be F32, one for each head and distance");
  a.out = args.out.data, a.q = args.q.data, a.k = args.k.data, a.v = args.v.data, a.bias = args.bias.as<float>();
  a.queries = queries, a.keys = a.runs.total, a.heads = static_cast<int>(args.heads), a.headDim = static_cast<int>(width / args.heads);
  a.scale = args.scale, a.lastKeyLogBias = args.lastKeyLogBias;
  return a;
}

void attention(cudaStream_t stream, const AttentionArgs& args, AttentionKernel choice, int computeMajor, const Workspace& workspace) {
  const AttentionCall a = attentionCall(args);
  if (a.queries == 0) return;
  if (args.q.dtype == DType::BF16 && choice != AttentionKernel::Plain) {
    if (choice == AttentionKernel::Best && computeMajor == 9 && attentionHopper(stream, a, rowsOf(args.k), workspace)) return;
    if (attentionPortable(stream, a)) return;
  }
  attentionPlain(stream, a, args.q.dtype);
}

}  // namespace longlive::cuda

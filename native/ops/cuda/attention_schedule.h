// How the work of one call is spread over a grid that stays (attention_sm90.cu). A unit is a pair of tiles of one head's queries against all
// keys; what takes it, called a block here, is a cluster of two thread blocks, which share the keys they read. Where a head has an odd tile of
// queries beside its pairs, that is a unit, too, half as long: the thread blocks read half of the keys each.
// Blocks take whole pairs in turn, so that those under way at the same time read the same keys. The pairs that are left for the last turn, fewer
// than there are blocks, and the odd tiles are cut along the keys into a share for every block; their parts are put together afterwards.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace longlive::cuda {

constexpr int kAttentionPair = 2;  // tiles of queries in a pair, and thread blocks in a cluster

// What a thread block of a cluster works at. paired: on the same keys as the other one.
struct AttentionPlace { int head, queryTile; bool paired; };

// `tiles` tiles of keys, of which there are `present` (the other one, the last, is to be masked). `tiles` = 0: there is no such part. slot: where its
// sums go; -1: it is a whole pair.
struct AttentionPart {
  AttentionPlace at;
  int firstTile, tiles, present, slot;
};

struct AttentionSchedule {
  int heads = 0, pairs = 0;  // pairs of every head
  bool odd = false;          // and a tile without another one, as a unit of its own
  int tiles = 0;             // of keys
  int blocks = 0, turns = 0;
  bool cut = false;

  static constexpr int kCutCost = 8;  // tiles that putting parts together may take

  // atOnce: blocks that run at the same time.
  static AttentionSchedule plan(int heads, int64_t queryTiles, int64_t tiles, int atOnce, bool mayCut) {
    AttentionSchedule s;
    s.heads = heads, s.tiles = static_cast<int>(tiles), s.blocks = atOnce;
    const auto spread = [&](int64_t pairs, bool odd) {
      s.pairs = static_cast<int>(pairs), s.odd = odd, s.turns = s.units() / s.blocks;
      s.cut = mayCut && s.cutUnits() > 0 && s.tiles * s.blocks - s.work() > kCutCost * s.blocks;
    };
    if (queryTiles % kAttentionPair == 1) {
      spread(queryTiles / kAttentionPair, true);
      if (s.cut && s.work() <= s.half() * s.blocks) return s;  // a share lies in two units at most
    }
    spread((queryTiles + 1) / kAttentionPair, false);
    if (s.turns == 0 && !s.cut) s.blocks = s.units(), s.turns = 1;
    return s;
  }

  __host__ __device__ int units() const { return heads * pairs; }  // that are pairs; odd tiles follow them
  __host__ __device__ int half() const { return (tiles + 1) / 2; }
  __host__ __device__ int rest() const { return units() - turns * blocks; }
  __host__ __device__ int cutUnits() const { return rest() + (odd ? heads : 0); }
  __host__ __device__ int slots() const { return cut ? 2 * blocks : 0; }

  __host__ __device__ AttentionPlace place(int unit, int rank) const {
    if (unit < units()) return {unit / pairs, unit % pairs * kAttentionPair + rank, true};
    return {unit - units(), pairs * kAttentionPair, false};
  }
  // Of the number-th unit that is cut.
  __host__ __device__ AttentionPlace cutPlace(int number, int rank) const { return place(turns * blocks + number, rank); }

  // Tiles before the number-th unit that is cut, and of all of them: fewer than `blocks` times `tiles`, so that what follows fits 32 bits.
  __host__ __device__ int before(int number) const {
    const int whole = number < rest() ? number : rest();
    return whole * tiles + (number - whole) * half();
  }
  __host__ __device__ int work() const { return before(cutUnits()); }

  // The first tile of a block's share, counted over the units that are cut.
  __host__ __device__ int begin(int block) const { return block * work() / blocks; }

  // What a thread block does number-th. A share is never longer than the shortest unit that is cut, so it lies in two at most.
  __host__ __device__ AttentionPart part(int block, int number, int rank) const {
    const int last = number - turns;
    if (last < 0) return {place(number * blocks + block, rank), 0, tiles, tiles, -1};
    if (!cut) {
      const int some = last == 0 && block < rest() ? tiles : 0;
      return {place(turns * blocks + block, rank), 0, some, some, -1};
    }
    const int end = begin(block + 1), paired = before(rest());
    int at = begin(block);
    int unit = at < paired ? at / tiles : rest() + (at - paired) / half();
    for (int i = 0; i < last; ++i) at = before(++unit);
    if (at >= end) return {};
    const AttentionPlace where = cutPlace(unit, rank);
    const int border = before(unit + 1), count = (end < border ? end : border) - at, slot = 2 * block + last;
    const int first = at - before(unit) + (where.paired ? 0 : rank * half()), left = tiles - first;
    return {where, first < tiles ? first : tiles - 1, count, count < left ? count : left, slot};
  }

  // Calls f with the slot of every part of the number-th unit that is cut, in the keys' order.
  template <class F> __host__ __device__ void eachSlot(int number, F f) const {
    const int from = before(number), to = before(number + 1);
    for (int block = from * blocks / work(); block < blocks && begin(block) < to; ++block) {
      if (begin(block + 1) <= from || begin(block + 1) == begin(block)) continue;
      f(2 * block + (begin(block) < from ? 1 : 0));
    }
  }
};

// The sums of parts by slot and thread block of the cluster, unnormalised: of values [queries, head dim], and by query the largest logit (kNoLogit:
// there was none) and the sum of weights.
constexpr float kNoLogit = -1e30f;
struct AttentionParts {
  static constexpr int kQueries = 128, kHead = 128;
  float* sums = nullptr;
  float2* rows = nullptr;

  __host__ __device__ static int64_t row(int slot, int rank, int query) { return (static_cast<int64_t>(slot) * kAttentionPair + rank) * kQueries + query; }
  static constexpr size_t bytes(int slots) { return static_cast<size_t>(slots) * kAttentionPair * kQueries * (kHead * sizeof(float) + sizeof(float2)); }
  static AttentionParts at(void* memory, int slots) {
    float* sums = static_cast<float*>(memory);
    return {sums, reinterpret_cast<float2*>(sums + static_cast<size_t>(slots) * kAttentionPair * kQueries * kHead)};
  }
};

}  // namespace longlive::cuda

// How the work of one call is spread over a grid that stays (attention_sm90.cu). A unit is a pair of tiles of one head's queries against all
// keys; what takes it, called a block here, is a cluster of two thread blocks, which share the keys they read.
// Blocks take whole units in turn, so that those under way at the same time read the same keys. The units that are left for the last turn,
// fewer than there are blocks, are cut along the keys into a share for every block; their parts are put together afterwards.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace longlive::cuda {

// `tiles` = 0: there is none. slot: where its sums go; -1: it is a whole unit.
struct AttentionPart { int unit, firstTile, tiles, slot; };

struct AttentionSchedule {
  int units = 0, tiles = 0;  // tiles of keys per unit
  int blocks = 0, turns = 0;
  bool cut = false;

  static constexpr int kCutCost = 8;  // tiles that putting parts together may take

  // atOnce: blocks that run at the same time.
  static AttentionSchedule plan(int64_t units, int64_t tiles, int atOnce, bool mayCut) {
    AttentionSchedule s;
    s.units = static_cast<int>(units), s.tiles = static_cast<int>(tiles), s.blocks = atOnce;
    s.turns = s.units / s.blocks;
    s.cut = mayCut && s.rest() > 0 && tiles * (s.blocks - s.rest()) > int64_t{kCutCost} * s.blocks;
    if (s.turns == 0 && !s.cut) s.blocks = s.units, s.turns = 1;
    return s;
  }

  __host__ __device__ int rest() const { return units - turns * blocks; }
  __host__ __device__ int slots() const { return cut ? 2 * blocks : 0; }

  // The first tile of a block's share, counted over the units that are cut.
  __host__ __device__ int64_t begin(int block) const { return static_cast<int64_t>(block) * rest() * tiles / blocks; }

  // What a block does number-th. A share is never longer than a unit, so it lies in two at most.
  __host__ __device__ AttentionPart part(int block, int number) const {
    const int last = number - turns;
    if (last < 0) return {number * blocks + block, 0, tiles, -1};
    if (!cut) return {turns * blocks + block, 0, last == 0 && block < rest() ? tiles : 0, -1};
    const int64_t end = begin(block + 1);
    int64_t at = begin(block);
    for (int i = 0; i < last; ++i) at = (at / tiles + 1) * tiles;
    if (at >= end) return {0, 0, 0, -1};
    const int64_t border = (at / tiles + 1) * tiles;
    return {turns * blocks + static_cast<int>(at / tiles), static_cast<int>(at % tiles), static_cast<int>((end < border ? end : border) - at),
            2 * block + last};
  }

  // Calls f with the slot of every part of the number-th unit that is cut, in the keys' order.
  template <class F> __host__ __device__ void eachSlot(int number, F f) const {
    const int64_t from = static_cast<int64_t>(number) * tiles, to = from + tiles;
    for (int block = static_cast<int>(from / tiles * blocks / rest()); block < blocks && begin(block) < to; ++block) {
      if (begin(block + 1) <= from || begin(block + 1) == begin(block)) continue;
      f(2 * block + (begin(block) < from ? 1 : 0));
    }
  }
};

constexpr int kAttentionPair = 2;  // tiles of queries in a unit, and thread blocks in a cluster

// The sums of parts by slot and tile of the pair, unnormalised: of values [queries, head dim], and by query the largest logit and the sum of
// weights.
struct AttentionParts {
  static constexpr int kQueries = 128, kHead = 128;
  float* sums = nullptr;
  float2* rows = nullptr;

  __host__ __device__ static int64_t row(int slot, int tile, int query) { return (static_cast<int64_t>(slot) * kAttentionPair + tile) * kQueries + query; }
  static constexpr size_t bytes(int slots) { return static_cast<size_t>(slots) * kAttentionPair * kQueries * (kHead * sizeof(float) + sizeof(float2)); }
  static AttentionParts at(void* memory, int slots) {
    float* sums = static_cast<float*>(memory);
    return {sums, reinterpret_cast<float2*>(sums + static_cast<size_t>(slots) * kAttentionPair * kQueries * kHead)};
  }
};

}  // namespace longlive::cuda

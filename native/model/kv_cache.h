// KV cache of the causal DiT: spec section 3.
//
// The reference keeps, per layer, K and V of `capacity` frames and, when they are full, moves all rows behind the sink to
// the front. Here nothing moves. Sink slots are fixed; the slots behind them are a ring, and a roll by e frames turns the
// ring by e:
//
//   slot i < sink           -> frame i of the buffers
//   slot i >= sink          -> frame sink + (i - sink + turn) mod (capacity - sink)
//
// "Slot" is the reference's row index / tokens per frame, so that everything that the reference says about positions (which
// rows a pass writes, which it sees, the temporal index in relative mode) is said here in slots, at frame granularity.
//
// One call of n frames that begin at frame `start` (G: frames ever produced, E: slots filled):
//
//   recompute = start + n <= G and start > 0
//   roll      = rolling and start + n > G and n + E > capacity;  evict = roll ? n + E - capacity : 0
//   E' = E + (start + n - G) - evict;  first = E' - n
//   write = recompute and not rewriteSink ? max(first, sink) : first       # a recompute leaves the sink alone
//   the call writes its frames [write - first, n) to slots [write, E')
//   and sees slots [0, sink) and [max(sink, E' - (attention - sink)), E')
//
// Slots of the sink that nothing has written yet hold zeros and are seen, as in the reference.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "arena.h"
#include "ops.h"

namespace longlive {

struct KvGeometry {
  int64_t capacity = 12;   // slots
  int64_t attention = 12;  // slots that a query sees at most, the sink included
  int64_t sink = 3;
  bool rolling = true;     // false: the capacity is never exceeded (the reference's local_attn_size = -1)

  // Whether calls of so many frames write whole pages of as many frames of the buffers, and see the first pages of the buffers: those written.
  bool inPages(int64_t frames) const { return attention == capacity && capacity % frames == 0 && (sink == 0 || sink == frames); }
};

// `count` frames that are neighbours both as slots and in memory.
struct FrameRun {
  int64_t source = 0;  // frame of the call (writes only)
  int64_t slot = 0;
  int64_t frame = 0;   // frame of the buffers
  int64_t count = 0;
};

// A fixed number of runs: sink, and a ring that may wrap.
struct FrameRuns {
  std::array<FrameRun, 4> runs{};
  int size = 0;
  const FrameRun* begin() const { return runs.data(); }
  const FrameRun* end() const { return runs.data() + size; }
};

struct KvPass {
  int64_t start = 0;      // frame number of the call's first frame
  int64_t frames = 0;
  int64_t firstSlot = 0;  // of the call's first frame
  int64_t skipped = 0;    // leading frames whose K/V are not kept
  FrameRuns writes, visible;
  bool anew = false;      // all that is visible is new, or the ring begins again: when what is kept of keys is made anew (ops.h, Backend::keep)

  // The same call without the frames whose K/V are discarded: nobody sees their keys, so when the output is not wanted
  // either, they need not be computed.
  KvPass withoutSkipped() const;
};

class KvCache {
 public:
  struct Indices {
    int64_t produced = 0;  // G
    int64_t filled = 0;    // E
    int64_t turn = 0;
  };

  // Buffers for `layers` layers of rows [frameTokens per frame, width] of dtype `type`. Rows of I8 have a scale for each of
  // `heads` parts of a row (ops.h, toBytes).
  KvCache(Arena& arena, const KvGeometry& geometry, int64_t layers, int64_t frameTokens, int64_t width, DType type,
          int64_t heads = 1);

  // Keeps what 8-bit attention makes of each layer's keys and values, too, in pages of so many frames.
  void keep(Arena& arena, int64_t bytes, int64_t pageFrames);

  // Plans one call and moves the indices. rewriteSink is the reference's sink_recache_after_switch.
  KvPass begin(int64_t start, int64_t frames, bool rewriteSink = false);

  Tensor keys(int64_t layer) const { return keys_[static_cast<size_t>(layer)]; }
  Tensor values(int64_t layer) const { return values_[static_cast<size_t>(layer)]; }
  // [rows, heads] F32; empty unless the rows are I8.
  Tensor keyScales(int64_t layer) const { return bytes() ? keyScales_[static_cast<size_t>(layer)] : Tensor{}; }
  Tensor valueScales(int64_t layer) const { return bytes() ? valueScales_[static_cast<size_t>(layer)] : Tensor{}; }
  bool bytes() const { return !keyScales_.empty(); }
  // Empty unless it is kept.
  KeptKeys kept(int64_t layer) const { return kept_.empty() ? KeptKeys{} : KeptKeys{kept_[static_cast<size_t>(layer)], page_}; }

  size_t memoryBytes() const;
  const KvGeometry& geometry() const { return geometry_; }
  int64_t frameTokens() const { return frameTokens_; }
  const Indices& indices() const { return indices_; }
  void setIndices(const Indices& i) { indices_ = i; }
  int64_t frameOf(int64_t slot) const;

  // Zeroes slots [from, to) of every layer.
  void zero(Backend& backend, int64_t from, int64_t to) const;

 private:
  void append(FrameRuns& runs, int64_t fromSlot, int64_t toSlot, int64_t source) const;

  KvGeometry geometry_;
  int64_t frameTokens_;
  Indices indices_;
  std::vector<Tensor> keys_, values_, keyScales_, valueScales_, kept_;
  int64_t page_ = 0;  // rows
};

}  // namespace longlive

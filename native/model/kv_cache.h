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
//   roll      = start + n > G and n + E > capacity;  evict = roll ? n + E - capacity : 0
//   E' = E + (start + n - G) - evict;  first = E' - n
//   write = recompute and not rewriteSink ? max(first, sink) : first       # a recompute leaves the sink alone
//   the call writes its frames [write - first, n) to slots [write, E')
//   and sees slots [0, sink) and [max(sink, E' - (attention - sink)), E')
//
// Slots of the sink that nothing has written yet hold zeros and are seen, as in the reference.
#pragma once

#include <cstdint>
#include <memory>

#include "key_values.h"

namespace longlive {

struct KvGeometry {
  int64_t capacity = 12;   // slots
  int64_t attention = 12;  // slots that a query sees at most, the sink included, and more than that
  int64_t sink = 3;
};

struct KvPass {
  int64_t start = 0;      // frame number of the call's first frame
  int64_t frames = 0;
  int64_t firstSlot = 0;  // of the call's first frame
  int64_t skipped = 0;    // leading frames whose K/V are not kept
  FrameRuns writes, visible;
  uint64_t form = 0;      // KeyValues::begin

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

  // Plans for a store of so many frames; the store may be absent, where only the plan matters.
  KvCache(const KvGeometry& geometry, std::unique_ptr<KeyValues> store);

  // Plans one call, which is the store's next pass, and moves the indices. rewriteSink is the reference's sink_recache_after_switch.
  KvPass begin(int64_t start, int64_t frames, bool rewriteSink = false);

  KeyValues& store() const { return *store_; }
  const KvGeometry& geometry() const { return geometry_; }
  const Indices& indices() const { return indices_; }
  void setIndices(const Indices& i) { indices_ = i; }
  int64_t frameOf(int64_t slot) const;

  // Zeroes slots [from, to) of every layer.
  void zero(int64_t from, int64_t to) const;

 private:
  // Slots [fromSlot, toSlot), of which the first is frame `fromSlot + source` of the call.
  void append(FrameRuns& runs, int64_t fromSlot, int64_t toSlot, int64_t source = 0) const;

  KvGeometry geometry_;
  std::unique_ptr<KeyValues> store_;
  Indices indices_;
};

}  // namespace longlive

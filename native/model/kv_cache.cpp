#include "kv_cache.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace longlive {

KvPass KvPass::withoutSkipped() const {
  KvPass p = *this;
  p.start += skipped, p.frames -= skipped, p.firstSlot += skipped, p.skipped = 0;
  p.writes = writes.withSourcesFrom(skipped);
  return p;
}

KvCache::KvCache(const KvGeometry& geometry, std::unique_ptr<KeyValues> store) : geometry_(geometry), store_(std::move(store)) {
  if (geometry.sink < 0 || geometry.sink >= geometry.capacity) throw std::logic_error("KvCache: the sink must leave room");
  if (geometry.attention <= geometry.sink) throw std::logic_error("KvCache: a query must see the sink and the newest frames");
  if (store_ && store_->layout().frames < geometry.capacity) throw std::logic_error("KvCache: the store has too few frames");
}

int64_t KvCache::frameOf(int64_t slot) const {
  const int64_t sink = geometry_.sink, ring = geometry_.capacity - sink;
  return slot < sink ? slot : sink + (slot - sink + indices_.turn) % ring;
}

void KvCache::append(FrameRuns& runs, int64_t fromSlot, int64_t toSlot, int64_t source) const {
  for (int64_t slot = fromSlot; slot < toSlot; ++slot) runs.add({slot + source, slot, frameOf(slot), 1});
}

KvPass KvCache::begin(int64_t start, int64_t frames, bool rewriteSink) {
  const auto [capacity, attention, sink] = geometry_;
  const int64_t end = start + frames;
  const bool recompute = end <= indices_.produced && start > 0;
  const bool roll = end > indices_.produced && frames + indices_.filled > capacity;
  const int64_t evict = roll ? frames + indices_.filled - capacity : 0;
  const int64_t filled = indices_.filled + end - indices_.produced - evict;
  const int64_t first = filled - frames;
  if (frames < 1 || first < 0 || filled > capacity || start > indices_.produced) throw std::logic_error("KvCache: the call does not fit the cache");

  // Where the evicted frames reach into the sink nothing survives behind it, and there is nothing to turn.
  if (roll && indices_.filled - evict - sink > 0) indices_.turn = (indices_.turn + evict) % (capacity - sink);
  if (!recompute) indices_.produced = end, indices_.filled = filled;

  const int64_t write = recompute && !rewriteSink ? std::max(first, sink) : first;
  KvPass pass;
  pass.start = start, pass.frames = frames, pass.firstSlot = first;
  pass.skipped = std::min(write - first, frames);
  append(pass.writes, write, filled, -first);
  append(pass.visible, 0, sink);
  append(pass.visible, std::max(sink, filled - (attention - sink)), filled);
  if (store_) pass.form = store_->begin(pass.writes, pass.visible, recompute);
  return pass;
}

void KvCache::zero(int64_t from, int64_t to) const {
  for (int64_t slot = from; slot < to; ++slot) store_->zero(frameOf(slot), 1);
}

}  // namespace longlive

// The ring against the reference's way: rows that are really moved.
#include "harness.h"
#include "model/kv_cache.h"

#include <algorithm>

using namespace longlive;

namespace {

// Spec 3.2, one frame per row, with the contents as tags: 0 is a row that nothing has written.
struct MovingCache {
  KvGeometry g;
  std::vector<int64_t> rows;
  int64_t produced = 0, filled = 0;

  explicit MovingCache(const KvGeometry& geometry) : g(geometry), rows(static_cast<size_t>(geometry.capacity), 0) {}

  // Returns the visible rows' tags.
  std::vector<int64_t> call(int64_t start, const std::vector<int64_t>& tags, bool rewriteSink) {
    const int64_t n = static_cast<int64_t>(tags.size()), end = start + n;
    const bool recompute = end <= produced && start > 0;
    const bool roll = end > produced && n + filled > g.capacity;
    int64_t evict = 0;
    if (roll) {
      evict = n + filled - g.capacity;
      const int64_t keep = filled - evict - g.sink;
      for (int64_t i = 0; i < keep; ++i) rows[static_cast<size_t>(g.sink + i)] = rows[static_cast<size_t>(g.sink + evict + i)];
    }
    const int64_t filledAfter = filled + end - produced - evict, first = filledAfter - n;
    const int64_t write = recompute && !rewriteSink ? std::max(first, g.sink) : first;
    for (int64_t slot = write; slot < filledAfter; ++slot) rows[static_cast<size_t>(slot)] = tags[static_cast<size_t>(slot - first)];
    std::vector<int64_t> seen(rows.begin(), rows.begin() + g.sink);
    for (int64_t slot = std::max(g.sink, filledAfter - (g.attention - g.sink)); slot < filledAfter; ++slot) seen.push_back(rows[static_cast<size_t>(slot)]);
    if (!recompute) produced = end, filled = filledAfter;
    return seen;
  }
};

// The ring with the same contents.
struct RingCache {
  KvCache cache;
  std::vector<int64_t> frames;

  explicit RingCache(const KvGeometry& g) : cache(g, nullptr), frames(static_cast<size_t>(g.capacity), 0) {}

  std::vector<int64_t> call(int64_t start, const std::vector<int64_t>& tags, bool rewriteSink) {
    const KvPass pass = cache.begin(start, static_cast<int64_t>(tags.size()), rewriteSink);
    for (const FrameRun& run : pass.writes) {
      for (int64_t i = 0; i < run.count; ++i) {
        CHECK(cache.frameOf(run.slot + i) == run.frame + i);
        frames[static_cast<size_t>(run.frame + i)] = tags[static_cast<size_t>(run.source + i)];
      }
    }
    std::vector<int64_t> seen;
    for (const FrameRun& run : pass.visible) {
      for (int64_t i = 0; i < run.count; ++i) seen.push_back(frames[static_cast<size_t>(run.frame + i)]);
    }
    return seen;
  }
  std::vector<int64_t> inSlotOrder() const {
    std::vector<int64_t> out;
    for (size_t i = 0; i < frames.size(); ++i) out.push_back(frames[static_cast<size_t>(cache.frameOf(static_cast<int64_t>(i)))]);
    return out;
  }
};

void playBlocks(const KvGeometry& g, int64_t block, int64_t blocks, bool globalSink) {
  MovingCache moving(g);
  RingCache ring(g);
  int64_t tag = 1;
  const auto both = [&](int64_t start, int64_t n, bool rewriteSink) {
    std::vector<int64_t> tags;
    for (int64_t i = 0; i < n; ++i) tags.push_back(tag++);
    const auto want = moving.call(start, tags, rewriteSink), got = ring.call(start, tags, rewriteSink);
    CHECK(want == got);
    CHECK(moving.rows == ring.inSlotOrder());
    CHECK(ring.cache.indices().produced == moving.produced && ring.cache.indices().filled == moving.filled);
  };
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t start = b * block;
    if (b > 0 && b % 3 == 2) {
      const int64_t n = std::min(g.capacity, start);
      both(start - n, n, !globalSink);
    }
    for (int pass = 0; pass < 3; ++pass) both(start, block, false);
  }
}

}  // namespace

TEST("kv cache: the ring holds and shows what moving rows would") {
  for (int64_t capacity = 2; capacity <= 13; ++capacity) {
    for (int64_t sink = 0; sink < capacity; ++sink) {
      for (int64_t block = 1; block <= std::min<int64_t>(4, capacity); ++block) {
        for (bool globalSink : {true, false}) playBlocks({capacity, capacity, sink}, block, 14, globalSink);
      }
    }
  }
}

TEST("kv cache: in a ring that is longer than the window the newest frames and the sink are seen") {
  playBlocks({24, 5, 2}, 3, 12, true);
  playBlocks({24, 21, 0}, 2, 16, false);
}

TEST("kv cache: a query sees more than the sink, whatever a geometry says") {
  const auto made = [](const KvGeometry& g) { return KvCache(g, nullptr).geometry().attention; };
  CHECK(made({6, 4, 3}) == 4);
  for (int64_t attention : {3, 0, -6}) CHECK_THROWS(made({6, attention, 3}), std::logic_error);
}

TEST("kv cache: a recompute drops what the sink protects") {
  KvCache cache({6, 6, 3}, nullptr);
  for (int64_t start : {0, 3, 6, 9}) cache.begin(start, 3);
  const KvPass pass = cache.begin(6, 6);
  CHECK(pass.skipped == 3);
  const KvPass less = pass.withoutSkipped();
  CHECK(less.frames == 3 && less.start == 9 && less.firstSlot == 3 && less.skipped == 0);
  CHECK(less.writes.size() >= 1 && less.writes.begin()->source == 0);
}

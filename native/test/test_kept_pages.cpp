// Pages of keys and values that the GPU's 8-bit attention keeps (ops/cuda/key_values_plan.h): whatever a pass sees is kept as it is now, all in
// the same ranges of numbers, whatever blocks, sinks and windows are.
#include <algorithm>
#include <vector>

#include "harness.h"
#include "model/kv_cache.h"
#include "ops/cuda/key_values_plan.h"

using namespace longlive;

namespace {

KeyValueLayout layoutOf(const KvGeometry& g, int64_t block) {
  return {.frames = g.capacity, .frameTokens = 4, .width = 128, .heads = 1, .queryFrames = g.capacity, .blockFrames = block, .sinkFrames = g.sink,
          .seenFrames = g.attention};
}

class Video {
 public:
  Video(const KvGeometry& g, int64_t block)
      : cache_(g, nullptr), page_(cuda::pageFrames(layoutOf(g, block))), pages_(g.capacity, page_, g.sink), frames_(static_cast<size_t>(g.capacity)),
        kept_(frames_), ranges_(frames_) {}

  void pass(int64_t start, int64_t n, bool rewriteSink = false) {
    const bool again = start + n <= cache_.indices().produced && start > 0;
    const KvPass pass = cache_.begin(start, n, rewriteSink);
    for (const FrameRun& run : pass.writes) std::for_each_n(frames_.begin() + run.frame, run.count, [&](int64_t& frame) { frame = ++tag_; });
    const cuda::KeptPages::Pass made = pages_.begin(pass.writes, pass.visible, again);
    CHECK(made.frames == pass.visible.frames());
    times_ += made.anew, carried_ += !made.anew;
    for (int64_t f = 0; f < made.frames; ++f) {
      const size_t i = static_cast<size_t>(f);
      if (made.make >> (f / page_) & 1) kept_[i] = frames_[i], ranges_[i] = times_;
      CHECK(kept_[i] == frames_[i] && ranges_[i] == times_);
    }
    CHECK(made.make >> pagesInStore() == 0);
  }
  void clear() {
    std::fill(frames_.begin(), frames_.end(), 0);
    pages_.zeroed(0, static_cast<int64_t>(frames_.size()));
    cache_.setIndices({});
  }
  int64_t pagesInStore() const { return (static_cast<int64_t>(frames_.size()) + page_ - 1) / page_; }
  int64_t carried() const { return carried_; }

 private:
  KvCache cache_;
  int64_t page_;
  cuda::KeptPages pages_;
  std::vector<int64_t> frames_, kept_, ranges_;  // what each frame of the store holds, what is kept of it, and which choice of ranges that was in
  int64_t tag_ = 0, times_ = 0, carried_ = 0;
};

// `first` frames, then blocks, three passes each, with recaches and a cleared store between.
int64_t play(const KvGeometry& g, int64_t first, int64_t block, bool globalSink) {
  Video video(g, block);
  for (int round = 0; round < 2; ++round) {
    int64_t start = 0, n = first;
    for (int b = 0; b < 14; ++b, start += n, n = block) {
      const int64_t past = std::min(g.capacity, start);
      if (b % 5 == 4) video.pass(start - past, past, !globalSink);
      for (int pass = 0; pass < 3; ++pass) video.pass(start, n);
    }
    if (round == 0) video.clear();
  }
  return video.carried();
}

}  // namespace

TEST("kept pages: whatever is seen is kept as it is, in the same ranges") {
  for (int64_t capacity = 3; capacity <= 24; ++capacity) {
    for (int64_t sink = 0; sink <= std::min<int64_t>(4, capacity - 1); ++sink) {
      for (int64_t block = 1; block <= std::min<int64_t>(4, capacity - sink); ++block) {
        for (int64_t first = 1; first <= block; ++first) {
          for (bool globalSink : {true, false}) {
            const int64_t carried = play({capacity, capacity, sink}, first, block, globalSink);
            CHECK(capacity - sink < 3 * block || carried > 2 * 14);  // most passes make new pages only
          }
        }
      }
    }
  }
}

TEST("kept pages: a block is a page where there are at most eight, else a page is several blocks") {
  CHECK(cuda::pageFrames(layoutOf({12, 12, 3}, 3)) == 3 && cuda::pageFrames(layoutOf({24, 24, 0}, 3)) == 3);
  CHECK(cuda::pageFrames(layoutOf({21, 21, 3}, 1)) == 3 && cuda::pageFrames(layoutOf({30, 30, 4}, 2)) == 4);
  CHECK(cuda::keepsPages(layoutOf({21, 21, 3}, 1), true) && cuda::keepsPages(layoutOf({7, 7, 1}, 3), true));
  CHECK(!cuda::keepsPages(layoutOf({15, 12, 3}, 3), true) && !cuda::keepsPages(layoutOf({12, 12, 3}, 3), false));
}

TEST("kept pages: pages are runs of the rows that are seen") {
  const KeyRange ring[] = {{0, 6}, {10, 3}, {6, 4}}, behind[] = {{3, 6}};
  CHECK(cuda::firstRows(ring) == 13 && cuda::firstRows(behind) == 0);
  const cuda::KeyRuns runs = cuda::planPages(0b101, 6, 13);
  CHECK(runs.size == 2 && runs.begin[1] == 12 && runs.count[0] == 6 && runs.count[1] == 1 && runs.total == 7);
  CHECK_THROWS(cuda::planPages(0b1000, 6, 13), std::logic_error);
  CHECK_THROWS(cuda::planPages(cuda::kAllPages, 1, 13), std::logic_error);
}

TEST("kept pages: a sink that is mixed from what leaves is made anew, and ranges are not chosen for that; frames that are zeroed choose them") {
  cuda::KeptPages pages(6, 1, 2);
  const auto see = [&](int64_t frame) { return pages.begin({{0, frame, frame, 1}}, {{0, 0, 0, 6}}, false); };
  for (int64_t frame = 0; frame < 6; ++frame) see(frame);
  see(2), see(3);
  for (int time = 0; time < 3; ++time) {
    pages.mixed(0, 4, 2);
    const cuda::KeptPages::Pass pass = see(4);
    CHECK(!pass.anew && pass.make == 0b010011u);  // the sink's pages and the one that is written
  }
  pages.zeroed(1, 1);
  CHECK(!see(4).anew);  // with what was chosen before,
  see(2);               // until the ring begins: then zeros are seen,
  CHECK(see(4).anew);   // and chosen for anew
  pages.mixed(1, 3, 1);
  see(2);
  CHECK(!see(4).anew);  // a copy is as written as what it is of
}

// What a store of keys and values is made of on a GPU, beside the rows themselves. Plain C++: also what plans of memory are made from.
#pragma once

#include <algorithm>
#include <vector>

#include "attention_plan.h"
#include "key_values.h"

namespace longlive::cuda {

inline int64_t rowsIn(const KeyValueLayout& l) { return l.frames * l.frameTokens; }

// Of as few frames as blocks have, as long as there are no more pages than attention takes runs.
inline int64_t pageFrames(const KeyValueLayout& l) {
  const int64_t block = std::max<int64_t>(l.blockFrames, 1);
  return block * ((l.frames + kMaxKeyRanges * block - 1) / (kMaxKeyRanges * block));
}

// Whether 8-bit attention keeps what it makes of keys and values: not of keys that are rotated anew in every call, nor where a window moves
// through the frames, so that there would be new tiles in every call.
inline bool keepsPages(const KeyValueLayout& l, bool eightBit) {
  return eightBit && l.rope == RopeMode::Absolute && l.blockFrames > 0 && l.seenFrames >= l.frames &&
         canKeep(rowsIn(l), pageFrames(l) * l.frameTokens, l.heads, l.width / l.heads);
}

// Per layer; nothing where nothing is kept.
inline std::vector<KeptKeys> takeKept(Arena& arena, const KeyValueLayout& l, bool eightBit, const EightBitFormat& format) {
  std::vector<KeptKeys> kept;
  if (!keepsPages(l, eightBit)) return kept;
  const int64_t page = pageFrames(l) * l.frameTokens, bytes = static_cast<int64_t>(layoutKept(rowsIn(l), page, l.heads, l.width / l.heads, format).bytes);
  for (int64_t i = 0; i < l.layers; ++i) kept.push_back({arena.take(DType::I8, {bytes}), page});
  return kept;
}

// Which pages a pass has to make. Ranges of numbers (what is taken off keys, the scales of values) are of the rows that were seen when they were
// chosen: they are chosen anew, of all that is seen, when all of it is new, when the ring begins again, and once after frames were seen that
// nobody had written.
class KeptPages {
 public:
  struct Pass {
    uint32_t make = 0;   // pages, by bits
    int64_t frames = 0;  // that are seen, the store's first; 0: others are, and nothing that is kept can be used
    bool anew = false;
    uint64_t form() const { return uint64_t{make} << 1 | (anew ? 1 : 0) | (frames > 0 ? uint64_t{1} << 33 : 0); }
  };

  KeptPages(int64_t frames, int64_t page, int64_t sink)
      : page_(page), sink_(sink), written_(static_cast<size_t>(frames)), made_(static_cast<size_t>(pagesOf(frames, page)), -1) {}

  Pass begin(const FrameRuns& writes, const FrameRuns& visible, bool again) {
    bool ringBegins = false;
    for (const FrameRun& run : writes) {
      spoil(run.frame, run.count);
      std::fill_n(written_.begin() + run.frame, run.count, true);
      ringBegins = ringBegins || run.frame == sink_;
    }
    Pass pass;
    pass.frames = firstFrames(visible);
    if (pass.frames == 0) return pass;
    pass.anew = !chosen_ || writes.frames() == pass.frames || (!again && (ringBegins || unwritten_));
    if (pass.anew) {
      chosen_ = true, unwritten_ = std::find(written_.begin(), written_.begin() + pass.frames, false) != written_.begin() + pass.frames;
      std::fill(made_.begin(), made_.end(), -1);
    }
    for (size_t p = 0; p < made_.size(); ++p) {
      const int64_t seen = std::min(page_, pass.frames - static_cast<int64_t>(p) * page_);
      if (seen > 0 && made_[p] != seen) made_[p] = seen, pass.make |= 1u << p;
    }
    return pass;
  }

  // Frames that nobody has written any more.
  void zeroed(int64_t first, int64_t count) {
    spoil(first, count);
    std::fill_n(written_.begin() + first, count, false);
    if (std::find(written_.begin(), written_.end(), true) == written_.end()) chosen_ = false;
  }
  // Frames that are others now, but no less written: averages lie in the ranges of what they were made of, and so do copies.
  void mixed(int64_t to, int64_t from, int64_t count) {
    spoil(to, count);
    for (int64_t i = 0; i < count; ++i) {
      const size_t t = static_cast<size_t>(to + i);
      written_[t] = written_[t] || written_[static_cast<size_t>(from + i)];
    }
  }

 private:
  void spoil(int64_t first, int64_t count) {
    for (int64_t p = first / page_; p * page_ < first + count; ++p) made_[static_cast<size_t>(p)] = -1;
  }
  static int64_t firstFrames(const FrameRuns& visible) { return firstRows(RowRanges(visible, 1).all()); }

  int64_t page_, sink_;
  std::vector<bool> written_;   // by frame
  std::vector<int64_t> made_;   // frames of each page that are kept as they are; -1: none
  bool chosen_ = false, unwritten_ = false;
};

// What a call makes: keys rotated by slot [rows, width], and queries as 8-bit attention takes them: bytes [n, width] and scales [n, heads].
// Absent where attention takes what there is.
struct WorkingRows {
  Tensor rotated;
  LinearRows queries;
};
inline WorkingRows takeWorking(Arena& arena, const KeyValueLayout& l, DType type, bool eightBit) {
  WorkingRows w;
  const int64_t n = l.queryFrames * l.frameTokens;
  if (l.rope == RopeMode::Relative) w.rotated = arena.take(type, {rowsIn(l), l.width});
  if (eightBit && canQuantizeQueries(l.width, l.heads)) w.queries = {arena.take(DType::I8, {n, l.width}), arena.take(DType::F32, {n, l.heads})};
  return w;
}

// A call's shapes, of tensors that point nowhere.
inline SelfAttention shapesOf(const KeyValueLayout& l, const AttendArgs& a, DType type, bool eightBit) {
  void* nowhere = a.q.data;
  SelfAttention s;
  s.out = a.out, s.q = a.q, s.heads = l.heads, s.scale = a.scale, s.eightBit = true;
  s.k = s.v = {nowhere, type, {rowsIn(l), l.width}};
  if (canQuantizeQueries(l.width, l.heads)) s.qScale = {nowhere, DType::F32, {a.q.shape[0], l.heads}};
  if (keepsPages(l, eightBit)) s.kept = {{nowhere, DType::I8, {1}}, pageFrames(l) * l.frameTokens};
  return s;
}

}  // namespace longlive::cuda

// What the stores of all backends share.
#include "key_values.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "longlive/error.h"

namespace longlive {

namespace {

void requireRun(int64_t first, int64_t count, int64_t frames, const char* what) {
  if (first >= 0 && count >= 1 && first <= frames - count) return;
  throw Error(ErrorCode::Internal, std::string("the core ") + what + " frames " + std::to_string(first) + " to " + std::to_string(first + count - 1) +
                                       " of a key-value store that has " + std::to_string(frames));
}

// At most kMost runs each: comparing all with all costs nothing beside a pass.
void requireFrames(const FrameRuns& runs, int64_t frames, const char* what) {
  const auto refuse = [&](int64_t frame, const std::string& why) {
    throw Error(ErrorCode::Internal, std::string("the core planned a pass that ") + what + " frame " + std::to_string(frame) + " of the key-value store " + why);
  };
  for (const FrameRun* run = runs.begin(); run != runs.end(); ++run) {
    if (run->frame < 0 || run->count < 1 || run->frame > frames - run->count) refuse(run->frame, "outside its " + std::to_string(frames) + " frames");
    if (run->slot < 0 || run->slot > frames - run->count) refuse(run->frame, "as slot " + std::to_string(run->slot) + ", where no video has one");
    for (const FrameRun* other = runs.begin(); other != run; ++other) {
      const int64_t first = std::max(run->frame, other->frame);
      if (first < std::min(run->frame + run->count, other->frame + other->count)) refuse(first, "twice");
    }
  }
}

}  // namespace

void FrameRuns::add(const FrameRun& run) {
  if (size_ > 0) {
    FrameRun& last = runs_[static_cast<size_t>(size_ - 1)];
    if (last.source + last.count == run.source && last.slot + last.count == run.slot && last.frame + last.count == run.frame) {
      last.count += run.count;
      return;
    }
  }
  if (size_ == kMost) throw Error(ErrorCode::Internal, "the core planned a pass of more than " + std::to_string(kMost) + " runs of frames");
  runs_[static_cast<size_t>(size_++)] = run;
}

FrameRuns FrameRuns::withSourcesFrom(int64_t skipped) const {
  FrameRuns runs = *this;
  for (int i = 0; i < size_; ++i) runs.runs_[static_cast<size_t>(i)].source -= skipped;
  return runs;
}

int64_t FrameRuns::frames() const {
  int64_t n = 0;
  for (const FrameRun& r : *this) n += r.count;
  return n;
}

RowRanges::RowRanges(const FrameRuns& runs, int64_t frameTokens) {
  for (const FrameRun& run : runs) ranges_[count_++] = {run.frame * frameTokens, run.count * frameTokens};
}

KeyValueRows takeKeysAndValues(Arena& arena, const KeyValueLayout& layout, DType type) {
  KeyValueRows r;
  const Shape shape{layout.frames * layout.frameTokens, layout.width};
  for (int64_t l = 0; l < layout.layers; ++l) {
    r.keys.push_back(arena.take(type, shape));
    r.values.push_back(arena.take(type, shape));
  }
  return r;
}

uint64_t KeyValues::begin(const FrameRuns& writes, const FrameRuns& visible, bool again) {
  requireFrames(writes, layout_.frames, "writes"), requireFrames(visible, layout_.frames, "reads");
  for (const FrameRun& run : writes) {
    if (run.source < 0 || run.source > layout_.queryFrames - run.count) {
      throw Error(ErrorCode::Internal, "the core planned a pass that writes frame " + std::to_string(run.source) + " of a call, which has " + std::to_string(layout_.queryFrames) + " at most");
    }
  }
  return prepare(writes, visible, again);
}

void KeyValues::zero(int64_t first, int64_t count) {
  requireRun(first, count, layout_.frames, "zeroes");
  for (int64_t l = 0; l < layout_.layers; ++l) {
    for (const auto* buffers : {&rows_.keys, &rows_.values}) {
      backend_.fill(framesOf(*buffers, l, first, count), 0);
    }
  }
  zeroed(first, count);
}

void KeyValues::mix(int64_t to, int64_t from, int64_t count, float s) {
  if (!(s >= 0 && s <= 1)) throw Error(ErrorCode::Internal, "the core mixes frames of a key-value store by a share of " + std::to_string(s));
  requireRun(to, count, layout_.frames, "mixes"), requireRun(from, count, layout_.frames, "mixes");
  if (std::max(to, from) < std::min(to, from) + count) {
    throw Error(ErrorCode::Internal, "the core mixes frames " + std::to_string(from) + " to " + std::to_string(from + count - 1) + " of a key-value store into frames that overlap them");
  }
  blend(to, from, count, s);
  mixed(to, from, count);
}

void KeyValues::blend(int64_t to, int64_t from, int64_t count, float s) {
  for (int64_t l = 0; l < layout_.layers; ++l) {
    for (const auto* buffers : {&rows_.keys, &rows_.values}) {
      const Tensor out = framesOf(*buffers, l, to, count);
      backend_.mix(out, out, framesOf(*buffers, l, from, count), s);
    }
  }
}

std::span<const int32_t> KeyValues::slots(const FrameRun& run) {
  const size_t end = static_cast<size_t>(run.slot + run.count);
  if (counting_.size() < end) counting_.resize(end), std::iota(counting_.begin(), counting_.end(), 0);
  return std::span(counting_).subspan(static_cast<size_t>(run.slot), static_cast<size_t>(run.count));
}

}  // namespace longlive

// What the stores of all backends share.
#include "key_values.h"

#include <numeric>
#include <stdexcept>

namespace longlive {

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

void KeyValues::zero(int64_t first, int64_t count) {
  for (int64_t l = 0; l < layout_.layers; ++l) {
    for (const auto* buffers : {&rows_.keys, &rows_.values}) {
      backend_.fill(framesOf(*buffers, l, first, count), 0);
    }
  }
  changed(first, count);
}

void KeyValues::mix(int64_t to, int64_t from, int64_t count, float s) {
  for (int64_t l = 0; l < layout_.layers; ++l) {
    for (const auto* buffers : {&rows_.keys, &rows_.values}) {
      const Tensor out = framesOf(*buffers, l, to, count);
      backend_.mix(out, out, framesOf(*buffers, l, from, count), s);
    }
  }
  changed(to, count);
}

std::span<const int32_t> KeyValues::slots(const FrameRun& run) {
  const size_t end = static_cast<size_t>(run.slot + run.count);
  if (counting_.size() < end) counting_.resize(end), std::iota(counting_.begin(), counting_.end(), 0);
  return std::span(counting_).subspan(static_cast<size_t>(run.slot), static_cast<size_t>(run.count));
}

}  // namespace longlive

// What a store of keys and values is made of on a GPU, beside the rows themselves. Plain C++: also what plans of memory are made from.
#pragma once

#include "attention_plan.h"
#include "key_values.h"

namespace longlive::cuda {

inline int64_t rowsIn(const KeyValueLayout& l) { return l.frames * l.frameTokens; }

// Whether 8-bit attention keeps what it makes of keys and values: not of keys that are rotated anew in every call.
inline bool keepsPages(const KeyValueLayout& l, bool eightBit) {
  return eightBit && l.rope == RopeMode::Absolute && l.pageFrames > 0 &&
         canKeep(rowsIn(l), l.pageFrames * l.frameTokens, l.heads, l.width / l.heads);
}

// Per layer; nothing where nothing is kept.
inline std::vector<KeptKeys> takeKept(Arena& arena, const KeyValueLayout& l, bool eightBit, const EightBitFormat& format) {
  std::vector<KeptKeys> kept;
  if (!keepsPages(l, eightBit)) return kept;
  const int64_t page = l.pageFrames * l.frameTokens, bytes = static_cast<int64_t>(layoutKept(rowsIn(l), page, l.heads, l.width / l.heads, format).bytes);
  for (int64_t i = 0; i < l.layers; ++i) kept.push_back({arena.take(DType::I8, {bytes}), page});
  return kept;
}

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
  if (eightBit && canQuantiseQueries(l.width, l.heads)) w.queries = {arena.take(DType::I8, {n, l.width}), arena.take(DType::F32, {n, l.heads})};
  return w;
}

// A call's shapes, of tensors that point nowhere.
inline SelfAttention shapesOf(const KeyValueLayout& l, const AttendArgs& a, DType type, bool eightBit) {
  void* nowhere = a.q.data;
  SelfAttention s;
  s.out = a.out, s.q = a.q, s.heads = l.heads, s.scale = a.scale, s.eightBit = true;
  s.k = s.v = {nowhere, type, {rowsIn(l), l.width}};
  if (canQuantiseQueries(l.width, l.heads)) s.qScale = {nowhere, DType::F32, {a.q.shape[0], l.heads}};
  if (keepsPages(l, eightBit)) s.kept = {{nowhere, DType::I8, {1}}, l.pageFrames * l.frameTokens};
  return s;
}

}  // namespace longlive::cuda

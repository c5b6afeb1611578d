#include "cpu_key_values.h"

namespace longlive::cpu {

KeyValueScales takeScales(Arena& arena, const KeyValueLayout& layout) {
  KeyValueScales s;
  if (layout.storage != KvStorage::Int8) return s;
  const Shape shape{layout.frames * layout.frameTokens, layout.heads};
  for (int64_t l = 0; l < layout.layers; ++l) {
    s.keys.push_back(arena.take(DType::F32, shape));
    s.values.push_back(arena.take(DType::F32, shape));
  }
  return s;
}

ReadyRows takeReady(Arena& arena, const KeyValueLayout& layout, DType type) {
  const bool bytes = layout.storage == KvStorage::Int8;
  const Shape shape{layout.frames * layout.frameTokens, layout.width};
  ReadyRows r;
  if (bytes || layout.rope == RopeMode::Relative) r.keys = arena.take(type, shape);
  if (bytes) r.values = arena.take(type, shape);
  return r;
}

CpuKeyValues::CpuKeyValues(CpuBackend& backend, const KeyValueLayout& layout) : KeyValues(backend, layout), cpu_(backend) {
  arena_ = Arena::plan(backend, [&](Arena& a) {
    rows_ = takeKeysAndValues(a, layout, inBytes() ? DType::I8 : backend.kvType());
    scales_ = takeScales(a, layout);
  });
  working_ = Arena::plan(backend, [&](Arena& a) { ready_ = takeReady(a, layout, backend.kvType()); });
  bytes_ = arena_.bytes(), workingBytes_ = working_.bytes();
}

// -- writing ----------------------------------------------------------------------------------------------------------------

// Keys that are rotated when they are read are kept as their norm gives them. In 8 bits is kept what would be without, rounded.
void CpuKeyValues::keepKeys(const AppendArgs& a, const FrameRun& run) {
  const size_t l = static_cast<size_t>(a.layer);
  const Tensor kept = rowsOf(rows_.keys[l], run);
  const Tensor in = sourceOf(a.scratch, run), out = inBytes() ? in : kept;
  if (relative()) cpu_.rmsNorm(out, in, a.norm.weight, a.norm.eps);
  else cpu_.rmsNormRope(out, in, a.norm.weight, a.norm.eps, layout_.heads, {a.rotation.tables, positions(a.rotation, run)});
  if (inBytes()) cpu_.toBytes(kept, rowsOf(scales_.keys[l], run), out);
}

void CpuKeyValues::keepValues(const AppendArgs& a, const FrameRun& run, bool made) {
  const size_t l = static_cast<size_t>(a.layer);
  const Tensor kept = rowsOf(rows_.values[l], run), in = sourceOf(a.scratch, run);
  if (!made) cpu_.linear(kept, a.in.rows(run.source * layout_.frameTokens, run.count * layout_.frameTokens), *a.value, {});
  else if (inBytes()) cpu_.toBytes(kept, rowsOf(scales_.values[l], run), in);
  else cpu_.copy(kept, in);
}

void CpuKeyValues::append(const AppendArgs& a) {
  cpu_.linear(a.scratch, a.in, *a.key, {});
  for (const FrameRun& run : *a.writes) keepKeys(a, run);
  // Values are made where they stay, if that is of their type.
  const bool apart = rows_.values[static_cast<size_t>(a.layer)].dtype != a.scratch.dtype;
  if (apart) cpu_.linear(a.scratch, a.in, *a.value, {});
  for (const FrameRun& run : *a.writes) keepValues(a, run, apart);
}

void CpuKeyValues::blend(int64_t to, int64_t from, int64_t count, float s) {
  if (!inBytes()) return KeyValues::blend(to, from, count, s);
  const auto frames = [&](const Tensor& t, int64_t first) { return t.rows(first * layout_.frameTokens, count * layout_.frameTokens); };
  for (int64_t i = 0; i < layout_.layers; ++i) {
    const size_t l = static_cast<size_t>(i);
    cpu_.mixBytes(frames(rows_.keys[l], to), frames(scales_.keys[l], to), frames(rows_.keys[l], from), frames(scales_.keys[l], from), s);
    cpu_.mixBytes(frames(rows_.values[l], to), frames(scales_.values[l], to), frames(rows_.values[l], from), frames(scales_.values[l], from), s);
  }
}

// -- reading ----------------------------------------------------------------------------------------------------------------

void CpuKeyValues::makeReady(const AttendArgs& a, const FrameRun& run) {
  const size_t l = static_cast<size_t>(a.layer);
  const Tensor kept = rowsOf(rows_.keys[l], run), ready = rowsOf(ready_.keys, run);
  if (inBytes()) {
    cpu_.fromBytes(ready, kept, rowsOf(scales_.keys[l], run));
    cpu_.fromBytes(rowsOf(ready_.values, run), rowsOf(rows_.values[l], run), rowsOf(scales_.values[l], run));
  }
  if (relative()) cpu_.rope(ready, inBytes() ? ready : kept, layout_.heads, {a.rotation.tables, slots(run)});
}

void CpuKeyValues::attend(const AttendArgs& a) {
  const size_t l = static_cast<size_t>(a.layer);
  if (a.norm.weight) cpu_.rmsNormRope(a.q, a.q, a.norm.weight, a.norm.eps, layout_.heads, rotationOf(a));
  if (ready_.keys) for (const FrameRun& run : *a.visible) makeReady(a, run);
  const RowRanges visible(*a.visible, layout_.frameTokens);
  AttentionArgs args;
  args.out = a.out, args.q = a.q;
  args.k = ready_.keys ? ready_.keys : rows_.keys[l], args.v = ready_.values ? ready_.values : rows_.values[l];
  args.visible = visible.all(), args.heads = layout_.heads, args.scale = a.scale, args.eightBit = true;
  cpu_.attention(args);
}

}  // namespace longlive::cpu

#include "cuda_key_values.h"

#include "longlive/error.h"

namespace longlive::cuda {

CudaKeyValues::CudaKeyValues(CudaBackend& backend, const KeyValueLayout& layout) : KeyValues(backend, layout), cuda_(backend), pages_(layout.frames, pageFrames(layout), layout.sinkFrames) {
  requireCudaArithmetic({.keyValues = layout.storage});
  const bool eightBit = backend.takesEightBitAttention();
  arena_ = Arena::plan(backend, [&](Arena& a) {
    rows_ = takeKeysAndValues(a, layout, backend.kvType());
    kept_ = takeKept(a, layout, eightBit, backend.eightBitFormat(layout.width / layout.heads));
  });
  working_ = Arena::plan(backend, [&](Arena& a) { ready_ = takeWorking(a, layout, backend.kvType(), eightBit); });
  bytes_ = arena_.bytes(), workingBytes_ = working_.bytes();
}

uint64_t CudaKeyValues::prepare(const FrameRuns& writes, const FrameRuns& visible, bool again) {
  if (!kept_.empty()) pass_ = pages_.begin(writes, visible, again);
  return pass_.form();
}

// Keys that are rotated when they are read are kept as their norm gives them.
void CudaKeyValues::keepKeys(const AppendArgs& a, const FrameRun& run) {
  const Tensor out = rowsOf(rows_.keys[static_cast<size_t>(a.layer)], run);
  const Tensor in = sourceOf(a.scratch, run);
  if (relative()) cuda_.rmsNorm(out, in, a.norm.weight, a.norm.eps);
  else cuda_.rmsNormRope(out, in, a.norm.weight, a.norm.eps, layout_.heads, {a.rotation.tables, positions(a.rotation, run)});
}

// Values are made where they stay.
void CudaKeyValues::keepValues(const AppendArgs& a, const FrameRun& run) {
  const Tensor out = rowsOf(rows_.values[static_cast<size_t>(a.layer)], run);
  cuda_.linear(out, a.in.rows(run.source * layout_.frameTokens, run.count * layout_.frameTokens), *a.value, {});
}

void CudaKeyValues::append(const AppendArgs& a) {
  const size_t l = static_cast<size_t>(a.layer);
  cuda_.linear(a.scratch, a.in, *a.key, {});
  for (const FrameRun& run : *a.writes) keepKeys(a, run);
  for (const FrameRun& run : *a.writes) keepValues(a, run);
  if (pass_.make != 0) cuda_.keep(kept_[l], rows_.keys[l], rows_.values[l], layout_.heads, pass_.make, pass_.frames * layout_.frameTokens, pass_.anew);
}

void CudaKeyValues::attend(const AttendArgs& a) {
  const size_t l = static_cast<size_t>(a.layer);
  const LinearRows queries = ready_.queries.scale && a.norm.weight ? ready_.queries.rows(0, a.q.shape[0]) : LinearRows{};
  if (queries.scale) {
    quantizedQueries(cuda_.stream(), queries.values, queries.scale, a.q, a.norm.weight, a.norm.eps, layout_.heads, *a.rotation.tables,
                     rotationOf(a).temporal);
  } else if (a.norm.weight) {
    cuda_.rmsNormRope(a.q, a.q, a.norm.weight, a.norm.eps, layout_.heads, rotationOf(a));
  }
  if (relative()) {
    for (const FrameRun& run : *a.visible) cuda_.rope(rowsOf(ready_.rotated, run), rowsOf(rows_.keys[l], run), layout_.heads, {a.rotation.tables, slots(run)});
  }
  const RowRanges visible(*a.visible, layout_.frameTokens);
  SelfAttention call;
  call.out = a.out, call.q = queries.scale ? queries.values : a.q, call.qScale = queries.scale;
  call.k = relative() ? ready_.rotated : rows_.keys[l], call.v = rows_.values[l];
  call.visible = visible.all(), call.heads = layout_.heads, call.scale = a.scale, call.eightBit = true;
  if (pass_.frames > 0) call.kept = kept_[l];
  cuda_.attend(call);
}

}  // namespace longlive::cuda

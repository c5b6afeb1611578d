// Keys and values of earlier frames, as a backend keeps them: the store that self-attention reads. The model says which frames
// of a call are kept where and which are seen (model/kv_cache.h); how they lie in memory, in what type, rotated or not, and
// what else is made of them (pages of 8 bits), is the backend's.
//
// The store is frame-granular: every call names frames of the store, `frameTokens` rows each. Blocks of any number of frames,
// sinks and windows of any kind are runs of frames. A pass is begun once, then every layer appends and attends.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "arena.h"
#include "ops.h"

namespace longlive {

// `count` frames that are neighbours in the call, as slots (the order that positions by slot count in) and in the store.
struct FrameRun {
  int64_t source = 0;  // frame of the call (writes only)
  int64_t slot = 0;
  int64_t frame = 0;   // frame of the store
  int64_t count = 0;
};

// A bounded number of runs, so that a pass allocates nothing.
class FrameRuns {
 public:
  // A sink, a bank of single frames that lie behind each other, and a ring that wraps: the most that a model family reads at once
  // (the others read a sink or a part of it, and a ring).
  static constexpr int kMost = 4;

  FrameRuns() = default;
  FrameRuns(std::initializer_list<FrameRun> runs) { for (const FrameRun& run : runs) add(run); }
  // Makes the last run longer where `run` goes on with it. Throws Error{Internal} for more than kMost runs.
  void add(const FrameRun& run);

  const FrameRun* begin() const { return runs_.data(); }
  const FrameRun* end() const { return runs_.data() + size_; }
  int size() const { return size_; }
  int64_t frames() const;
  // The same of a call whose first `skipped` frames are left out.
  FrameRuns withSourcesFrom(int64_t skipped) const;

 private:
  std::array<FrameRun, kMost> runs_{};
  int size_ = 0;
};

// What the rows of some runs are in a buffer of the store.
class RowRanges {
 public:
  RowRanges(const FrameRuns& runs, int64_t frameTokens);
  std::span<const KeyRange> all() const { return {ranges_.data(), count_}; }

 private:
  std::array<KeyRange, FrameRuns::kMost> ranges_;
  size_t count_ = 0;
};

struct KeyValueLayout {
  int64_t layers = 1;
  int64_t frames = 1;       // that the store has room for
  int64_t frameTokens = 1;  // rows of a frame
  int64_t width = 1, heads = 1;
  KvStorage storage = KvStorage::Full;
  // Keys are rotated when they are written (Absolute), or when they are read, by their slot (Relative; spec 3.5).
  RopeMode rope = RopeMode::Absolute;
  int64_t queryFrames = 1;  // of a call, at most
  // What videos mostly do, so that a backend may keep what it makes of keys and values; other calls are as right.
  int64_t blockFrames = 0;  // frames of a call; 0 where nothing is known, and nothing is kept
  int64_t sinkFrames = 0;   // the store's first frames, which stay; the others are a ring
  int64_t seenFrames = 0;   // that a query sees at most
};

// What every backend's store begins with, per layer [frames * frameTokens, width].
struct KeyValueRows {
  std::vector<Tensor> keys, values;
};
KeyValueRows takeKeysAndValues(Arena& arena, const KeyValueLayout& layout, DType type);

// RMSNorm over the whole row.
struct RowNorm {
  Tensor weight;  // [width]
  float eps = 0;
};

struct AppendArgs {
  int64_t layer = 0;
  LinearRows in;  // [n, width]: what the two linear layers read; n = frames of the call * frameTokens
  const LinearWeights *key = nullptr, *value = nullptr;
  RowNorm norm;         // of keys
  RotationAt rotation;  // by position; unused where keys are rotated when they are read
  const FrameRuns* writes = nullptr;  // frames that are kept
  Tensor scratch;  // [n, width] of activationType(), overwritten
};

struct AttendArgs {
  int64_t layer = 0;
  Tensor out;           // [n, width]
  Tensor q;             // [n, width], as the linear layer gave it; overwritten
  RowNorm norm;         // of queries; without a weight they are normalised and rotated already
  RotationAt rotation;  // by position
  std::span<const int32_t> slots;  // of the call's frames: what queries are rotated by where keys are rotated when they are read
  const FrameRuns* visible = nullptr;
  float scale = 1.0f;
};

// One store belongs to one video; its memory is taken when it is made.
class KeyValues {
 public:
  virtual ~KeyValues() = default;

  // What the layers of the next pass will write and see; `again`: frames that a pass has written before. Passes of equal runs do the
  // same work if they are given equal numbers here. Throws Error{Internal} for frames that the store has not, and for one that is
  // named twice: what is kept of keys and values is kept once. [nothing]
  uint64_t begin(const FrameRuns& writes, const FrameRuns& visible, bool again);

  // Makes keys and values of the call's rows and keeps those of `writes`. [scratch]
  virtual void append(const AppendArgs& a) = 0;
  // Softmax attention of the call's queries over the visible frames. [scratch]
  virtual void attend(const AttendArgs& a) = 0;

  // Both change frames behind the back of passes: before begin() of the pass that is to see it, not between that and its layers. They throw
  // Error{Internal} for frames that the store has not.
  //
  // Frames [first, first + count) of every layer read as zeros again. [nothing]
  void zero(int64_t first, int64_t count);
  // Frames [to, to + count) of every layer become (1 - s) of themselves and s of frames [from, from + count), which are others. Rows in 8
  // bits are mixed as what they stand for, and rounded again. No family that is imported so far calls it: a sink that is an average of what
  // was evicted does (families-wan21, D.1), and with s = 1, a copy, a bank of single frames (D.2). [nothing]
  void mix(int64_t to, int64_t from, int64_t count, float s);

  const KeyValueLayout& layout() const { return layout_; }
  size_t bytes() const { return bytes_; }                // of keys and values, and of what is kept of them
  size_t workingBytes() const { return workingBytes_; }  // of what a call makes of them

 protected:
  KeyValues(Backend& backend, const KeyValueLayout& layout) : backend_(backend), layout_(layout) {}

  // begin(), of runs that are right.
  virtual uint64_t prepare(const FrameRuns& /*writes*/, const FrameRuns& /*visible*/, bool /*again*/) { return 0; }

  // mix(), of runs that are right.
  virtual void blend(int64_t to, int64_t from, int64_t count, float s);

  // What zero() and mix() have done to every layer, without an append.
  virtual void zeroed(int64_t /*first*/, int64_t /*count*/) {}
  virtual void mixed(int64_t /*to*/, int64_t /*from*/, int64_t /*count*/) {}

  bool relative() const { return layout_.rope == RopeMode::Relative; }
  // Queries stand where their keys do.
  RotationAt rotationOf(const AttendArgs& a) const { return {a.rotation.tables, relative() ? a.slots : a.rotation.temporal}; }

  // Rows of a run in a layer's buffer.
  Tensor rowsOf(const Tensor& buffer, const FrameRun& run) const { return buffer.rows(run.frame * layout_.frameTokens, run.count * layout_.frameTokens); }
  Tensor sourceOf(const Tensor& call, const FrameRun& run) const { return call.rows(run.source * layout_.frameTokens, run.count * layout_.frameTokens); }
  // Positions of a run's keys by slot.
  std::span<const int32_t> slots(const FrameRun& run);
  // Positions of a run's keys by the call's rotation.
  std::span<const int32_t> positions(const RotationAt& r, const FrameRun& run) const {
    return r.temporal.subspan(static_cast<size_t>(run.source), static_cast<size_t>(run.count));
  }

  Backend& backend_;
  KeyValueLayout layout_;
  Arena arena_, working_;
  KeyValueRows rows_;
  size_t bytes_ = 0, workingBytes_ = 0;

 private:
  friend struct KeyValuesProbe;  // of tests
  Tensor framesOf(const std::vector<Tensor>& buffers, int64_t layer, int64_t frame, int64_t count) const {
    return buffers[static_cast<size_t>(layer)].rows(frame * layout_.frameTokens, count * layout_.frameTokens);
  }
  std::vector<int32_t> counting_;  // 0, 1, 2, ...
};

}  // namespace longlive

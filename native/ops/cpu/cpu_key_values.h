// The CPU's store of keys and values: F32 or BF16 rows, or 8 bits with a scale per row and head (bytes.cpp).
#pragma once

#include "cpu_backend.h"
#include "key_values.h"

namespace longlive::cpu {

// Scales of rows in 8 bits, [rows, heads] F32 per layer; nothing for KvStorage::Full.
struct KeyValueScales {
  std::vector<Tensor> keys, values;
};
KeyValueScales takeScales(Arena& arena, const KeyValueLayout& layout);

// Keys and values as attention takes them, [frames * frameTokens, width], where they are not kept so: keys rotated by slot, or
// widened from 8 bits; values widened. Absent where they are.
struct ReadyRows {
  Tensor keys, values;
};
ReadyRows takeReady(Arena& arena, const KeyValueLayout& layout, DType type);

class CpuKeyValues final : public KeyValues {
 public:
  CpuKeyValues(CpuBackend& backend, const KeyValueLayout& layout);

  void append(const AppendArgs& a) override;
  void attend(const AttendArgs& a) override;

 private:
  void blend(int64_t to, int64_t from, int64_t count, float s) override;
  bool inBytes() const { return layout_.storage == KvStorage::Int8; }
  void keepKeys(const AppendArgs& a, const FrameRun& run);
  void keepValues(const AppendArgs& a, const FrameRun& run, bool made);
  void makeReady(const AttendArgs& a, const FrameRun& run);

  CpuBackend& cpu_;
  KeyValueScales scales_;
  ReadyRows ready_;
};

}  // namespace longlive::cpu

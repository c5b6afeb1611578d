// The GPU's store of keys and values: rows in the activations' type, and what 8-bit attention makes of them, page by page.
#pragma once

#include "cuda_backend.h"
#include "key_values_plan.h"

namespace longlive::cuda {

class CudaKeyValues final : public KeyValues {
 public:
  CudaKeyValues(CudaBackend& backend, const KeyValueLayout& layout);

  void append(const AppendArgs& a) override;
  void attend(const AttendArgs& a) override;

 private:
  uint64_t prepare(const FrameRuns& writes, const FrameRuns& visible, bool again) override;
  void zeroed(int64_t first, int64_t count) override { pages_.zeroed(first, count); }
  void mixed(int64_t to, int64_t from, int64_t count) override { pages_.mixed(to, from, count); }
  void keepKeys(const AppendArgs& a, const FrameRun& run);
  void keepValues(const AppendArgs& a, const FrameRun& run);

  CudaBackend& cuda_;
  std::vector<KeptKeys> kept_;
  KeptPages pages_;
  KeptPages::Pass pass_;
  WorkingRows ready_;
};

}  // namespace longlive::cuda

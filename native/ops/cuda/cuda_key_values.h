// The GPU's store of keys and values: rows in the activations' type, and what 8-bit attention makes of them, page by page.
#pragma once

#include "cuda_backend.h"
#include "key_values_plan.h"

namespace longlive::cuda {

class CudaKeyValues final : public KeyValues {
 public:
  // Throws Error{InvalidArgument} for KvStorage::Int8.
  CudaKeyValues(CudaBackend& backend, const KeyValueLayout& layout);

  void append(const AppendArgs& a) override;
  void attend(const AttendArgs& a) override;

 private:
  bool relative() const { return layout_.rope == RopeMode::Relative; }
  void keepKeys(const AppendArgs& a, const FrameRun& run);
  void keepValues(const AppendArgs& a, const FrameRun& run);

  CudaBackend& cuda_;
  std::vector<KeptKeys> kept_;
  WorkingRows ready_;
};

}  // namespace longlive::cuda

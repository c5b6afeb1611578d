// Work that comes again as a CUDA graph: launched in one call, with the arguments it had when it was captured.
//
//   first time      runs as it is: scratch grows, modules load, cuBLASLt makes its plans
//   second time     captured, instantiated, launched
//   later           launched
//   new version     captured again; the executable graph takes the new arguments (same nodes), or is made anew
//
// Where the driver refuses a capture the work runs as it is, then and ever after, which is slower: whoever owns the recording counts it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>

#include "ops.h"

namespace longlive::cuda {

class GraphRecording final : public Recording {
 public:
  ~GraphRecording() override;
  GraphRecording() = default;
  GraphRecording(const GraphRecording&) = delete;

  void run(cudaStream_t stream, uint64_t version, const std::function<void()>& work);
  bool refused() const { return refused_; }

 private:
  // False if the work cannot be captured.
  bool capture(cudaStream_t stream, const std::function<void()>& work);
  bool adopt(cudaGraph_t graph);

  cudaGraphExec_t executable_ = nullptr;
  uint64_t version_ = 0;
  bool met_ = false, refused_ = false;
};

}  // namespace longlive::cuda

// Copies between host and device through pinned memory, in chunks and two of everything: while one chunk is on the bus, the
// next one is copied by the processor. A caller's memory may be pageable and is free again when a call returns.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <type_traits>

#include "operand.h"
#include "ops.h"

namespace longlive::cuda {

class Staging {
 public:
  Staging();  // throws OutOfMemory, and has given back by then what it had

  void upload(cudaStream_t stream, const Tensor& out, const float* host);     // converts to out.dtype
  void uploadBytes(cudaStream_t stream, void* device, const void* host, size_t bytes);
  void download(cudaStream_t stream, float* host, const Tensor& in);          // converts to F32; waits
  void downloadBytes(cudaStream_t stream, void* host, const void* device, size_t bytes);  // waits

 private:
  static constexpr size_t kHalf = kStagingBytes;

  // issue(chunk, offset, bytes) puts a copy into pinned half chunk % 2 on the stream.
  template <class Issue> void drain(cudaStream_t stream, void* host, size_t bytes, Issue issue);
  template <class Issue> void feed(cudaStream_t stream, const void* host, size_t bytes, Issue issue);

  struct FreePinned { void operator()(void* p) const { cudaFreeHost(p); } };
  struct FreeDevice { void operator()(void* p) const { cudaFree(p); } };
  struct DestroyEvent { void operator()(cudaEvent_t e) const { cudaEventDestroy(e); } };

  std::unique_ptr<void, FreePinned> pinned_[2];
  std::unique_ptr<void, FreeDevice> device_[2];  // F32 of a chunk that is converted
  std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroyEvent> free_[2];
};

}  // namespace longlive::cuda

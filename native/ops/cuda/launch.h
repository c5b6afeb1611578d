// Launching kernels and checking calls. Every failure becomes a longlive::Error: OutOfMemory; Internal where a call was wrong
// and the device refused it; or DeviceFault, after which the device must be considered unhealthy (such errors of a context are
// sticky).
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <string>
#include <utility>

#include "longlive/error.h"

namespace longlive::cuda {

// Of a call that the device has refused, and is as it was (cudaError_t by number: they are part of the ABI): invalid value,
// configuration, symbol, function or handle, too many resources, not permitted, not supported, and all about stream capture.
constexpr bool isRefusal(int status) {
  switch (status) {
    case 1: case 9: case 13: case 98: case 400: case 701: case 800: case 801: return true;
    default: return status >= 900 && status <= 910;
  }
}

inline ErrorCode codeOf(cudaError_t status) {
  if (status == cudaErrorMemoryAllocation) return ErrorCode::OutOfMemory;
  return isRefusal(static_cast<int>(status)) ? ErrorCode::Internal : ErrorCode::DeviceFault;
}

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const ErrorCode code = codeOf(status);
  if (code != ErrorCode::DeviceFault) cudaGetLastError();  // not sticky: the next call must not find it
  throw Error(code, std::string("CUDA: ") + what + ": " + cudaGetErrorName(status) + ": " + cudaGetErrorString(status));
}

inline int currentDevice() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

inline int attributeOf(int device, cudaDeviceAttr attribute) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

// What is asked of the current device at every launch, and is asked of each device once: a static one keeps the answers of all.
class PerDevice {
 public:
  template <class Ask> int operator()(Ask&& ask) {
    const int device = currentDevice();
    if (device >= static_cast<int>(known_.size())) return ask(device);
    std::atomic<int>& known = known_[static_cast<size_t>(device)];  // one more than the answer
    int answer = known.load(std::memory_order_relaxed) - 1;
    if (answer < 0) known.store((answer = ask(device)) + 1, std::memory_order_relaxed);
    return answer;
  }

 private:
  std::array<std::atomic<int>, 64> known_{};
};

// Bytes of shared memory that a block may have on the current device: 99 KB on chips of 8.6, 8.9 and 12.x, 163 KB and more on others.
inline size_t sharedLimit() { return static_cast<size_t>(attributeOf(currentDevice(), cudaDevAttrMaxSharedMemoryPerBlockOptin)); }

// Of the current device.
inline int multiprocessors() { return attributeOf(currentDevice(), cudaDevAttrMultiProcessorCount); }

#ifndef LONGLIVE_CUDA_EMULATED
// Whether the current device can begin a kernel while the one before it ends.
inline bool beginsEarly() {
  static PerDevice majors;
  return majors([](int device) { return attributeOf(device, cudaDevAttrComputeCapabilityMajor); }) >= 9;
}
#endif

// kernel<<<grid, threads, shared, stream>>>(args...) in plain C++; threads are one-dimensional. clusterSize: as the kernel declares it
// (LONGLIVE_CLUSTER), which only the emulator cannot see.
template <class... Parameters, class... Arguments>
void launchClusters(const char* name, void (*kernel)(Parameters...), dim3 grid, [[maybe_unused]] unsigned clusterSize, unsigned threads, size_t shared,
                    cudaStream_t stream, Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#ifdef LONGLIVE_CUDA_EMULATED
  check(emulator::launch<Parameters...>(kernel, grid, clusterSize, threads, shared, stream, static_cast<Parameters>(arguments)...), name);
#else
  if (shared > 48 * 1024) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared)), name);
  }
  // Every kernel waits by itself for what is before it (followEarlier), so the device may begin it early; chips before Hopper cannot.
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization, early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = dim3(threads), config.dynamicSmemBytes = shared, config.stream = stream;
  config.attrs = &early, config.numAttrs = beginsEarly() ? 1 : 0;
  [&](Parameters... values) {
    void* pointers[] = {static_cast<void*>(&values)...};
    check(cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), pointers), name);
  }(std::forward<Arguments>(arguments)...);
#endif
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads, size_t shared, cudaStream_t stream, Arguments&&... arguments) {
  launchClusters(name, kernel, grid, 1, threads, shared, stream, std::forward<Arguments>(arguments)...);
}

}  // namespace longlive::cuda

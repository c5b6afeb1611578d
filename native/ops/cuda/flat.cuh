// Kernels that see their items as one row: a thread for each, or for each few.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels.h"

namespace longlive::cuda {

constexpr int kFlatThreads = 256;

template <int threads = kFlatThreads>
dim3 flatGrid(int64_t items) { return dim3(static_cast<unsigned>(ceilDiv(items, threads))); }

__device__ __forceinline__ int64_t globalThread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

}  // namespace longlive::cuda

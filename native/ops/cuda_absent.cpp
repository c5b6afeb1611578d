// Stands for the CUDA backend in builds without it; a build with LONGLIVE_CUDA compiles ops/cuda instead.
#ifndef LONGLIVE_CUDA

#include "longlive/error.h"
#include "ops.h"

namespace longlive {

std::unique_ptr<Backend> makeCudaBackend(const BackendOptions& options) {
  requireCudaArithmetic(options);
  throw Error(ErrorCode::Unavailable, "this build has no CUDA backend: use device \"cpu\"");
}

int cudaDevices() { return 0; }

}  // namespace longlive

#endif

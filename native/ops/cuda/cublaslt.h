// Large matrix products by cuBLASLt, where the library can be found at run time. Nothing is linked and no header is needed:
// the dozen functions are loaded by name (they and their constants are a stable ABI), so that an addon built with CUDA also
// loads where the library is absent, and then uses the kernel of gemm.cu.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "operand.h"
#include "ops.h"

namespace longlive::cuda {

// out[rows, columns] = gelu?(in[rows, depth] weight[columns, depth]^T + bias) + addend?
// All of one type, F32 (F32 arithmetic, no TF32) or BF16 (F32 sums); or in and weight F8_E4M3, with a scale for each row and
// column of the product, which few libraries and chips have. Weight rows lie `stride` elements apart.
struct LtProduct {
  void* out;
  const void *in, *weight, *bias, *addend;
  int64_t rows, columns, depth, stride;
  DType type, operands;  // operands: type, or F8_E4M3
  bool gelu;
  const float *rowScale = nullptr, *columnScale = nullptr;  // F8_E4M3
};

class CublasLt {
 public:
  // Null if there is no library or it refuses to start. LONGLIVE_CUBLASLT names a file to try first, or is "off".
  static std::unique_ptr<CublasLt> open();
  ~CublasLt();

  // False if the library has no algorithm for this product. Plans are made once per shape. Products that may run at the same
  // time need workspaces (of kWorkspaceBytes) of their own. Threads may call at the same time.
  bool multiply(cudaStream_t stream, void* workspace, const LtProduct& p);
  const std::string& name() const { return name_; }

 private:
  struct Functions;
  struct Plan;
  struct Key {
    int64_t rows, columns, depth, stride;
    DType type, operands;
    bool gelu, bias, addend;
    auto operator<=>(const Key&) const = default;
  };

  CublasLt();
  Plan* plan(const LtProduct& p);  // null if there is no algorithm

  std::string name_;
  std::unique_ptr<Functions> f_;
  void* handle_ = nullptr;
  std::mutex planning_;  // a plan's description holds the pointers of the product at hand
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace longlive::cuda

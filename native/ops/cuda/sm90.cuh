// What kernels for Hopper (sm_90a) share: mbarriers, the bulk copy engine, and what wgmma needs around its products. Nothing of it has
// an emulated twin: include it where LONGLIVE_SM90A is defined and the emulator is not.
#pragma once

#include <cuda.h>

#include "device.cuh"
#include "launch.h"

namespace longlive::cuda {

// In front of a kernel: its blocks come in clusters.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define LONGLIVE_CLUSTER(size)
#else
#define LONGLIVE_CLUSTER(size) __cluster_dims__(size, 1, 1)
#endif

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ __forceinline__ uint32_t sharedAddress(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void initBarrier(uint64_t* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(b)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void expectBytes(uint64_t* b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(b)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void arrive(uint64_t* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(b)) : "memory");
}
__device__ __forceinline__ void waitFor(uint64_t* b, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"  // lanes may find it done one after another
      "bra again;\n"
      "finished:\n"
      "}\n" ::"r"(sharedAddress(b)), "r"(parity) : "memory");
}
__device__ __forceinline__ void copyBox(void* to, const CUtensorMap* map, int column, int row, uint64_t* full) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(sharedAddress(to)),
               "l"(reinterpret_cast<uint64_t>(map)), "r"(sharedAddress(full)), "r"(column), "r"(row)
               : "memory");
}

// A cluster of two blocks that read the same: each copies half of it into the shared memory of both.
__device__ __forceinline__ int clusterRank() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void clusterSync() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
// To the same places of both, each of whose barriers counts the bytes.
__device__ __forceinline__ void copyBoxToBoth(void* to, const CUtensorMap* map, int column, int row, uint64_t* full) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(
          sharedAddress(to)),
      "l"(reinterpret_cast<uint64_t>(map)), "r"(sharedAddress(full)), "r"(column), "r"(row), "h"(static_cast<uint16_t>(3))
      : "memory");
}
// At this barrier of the block with that rank.
__device__ __forceinline__ void arriveAt(uint64_t* b, int rank) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}\n" ::"r"(sharedAddress(b)), "r"(rank) : "memory");
}

// Shared memory as wgmma sees it: 128-byte swizzle, groups of 8 rows 1024 bytes apart; for operands read along their rows,
// `leading` bytes from one block of 64 columns to the next.
__device__ __forceinline__ uint64_t describe(const void* p, int leading) {
  return static_cast<uint64_t>((sharedAddress(p) & 0x3ffff) >> 4) | static_cast<uint64_t>(leading >> 4) << 16 |
         static_cast<uint64_t>(1024 >> 4) << 32 | uint64_t{1} << 62;
}

__device__ __forceinline__ void fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> __device__ __forceinline__ void waitProducts() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

// Keeps the compiler from moving uses of registers that an asynchronous product writes or reads.
template <int N> __device__ __forceinline__ void pin(float (&r)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(r[n][i])::"memory");
}
template <int N> __device__ __forceinline__ void pin(int32_t (&r)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(r[n][i])::"memory");
}

#endif

// How many clusters of a kernel, which has their size in its declaration, run at the same time.
template <class... Parameters> int activeClusters(void (*kernel)(Parameters...), int size, unsigned threads, size_t shared) {
  const void* function = reinterpret_cast<const void*>(kernel);
  check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), "clusters");
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(size), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(size)), config.blockDim = dim3(threads), config.dynamicSmemBytes = shared;
  config.attrs = &attribute, config.numAttrs = 1;
  int clusters = 0;
  check(cudaOccupancyMaxActiveClusters(&clusters, function, &config), "clusters");
  return clusters;
}

// A matrix [rows, columns] in boxes, 128-byte swizzle; what lies outside reads as zeros. False: the driver does not know how.
inline bool encodeTensorMap(CUtensorMap* map, CUtensorMapDataType type, const void* data, int64_t rows, int64_t columns, int elementBytes,
                            int boxRows, int boxColumns) {
  using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                              const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const Encode function = [] {
    void* f = nullptr;
    cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault, &found);
#else  // there until 13.0
    const cudaError_t status = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &f, cudaEnableDefault, &found);
#endif
    return status == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(f) : nullptr;
  }();
  const cuuint64_t size[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t stride[] = {static_cast<cuuint64_t>(columns * elementBytes)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(boxColumns), static_cast<cuuint32_t>(boxRows)}, step[] = {1, 1};
  return function && function(map, type, 2, const_cast<void*>(data), size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                              CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace longlive::cuda

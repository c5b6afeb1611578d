// What kernels for Hopper (sm_90a) share: mbarriers, the bulk copy engine, and what wgmma needs around its products. Nothing of it has
// an emulated twin: include it where LONGLIVE_SM90A is defined and the emulator is not.
#pragma once

#include <cuda.h>

#include "device.cuh"

namespace longlive::cuda {

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
__device__ __forceinline__ void pin(float (&r)[16][4]) {
#pragma unroll
  for (int n = 0; n < 16; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(r[n][i])::"memory");
}

#endif

}  // namespace longlive::cuda

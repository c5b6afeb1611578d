// What kernels for Hopper (sm_90a) share: mbarriers, the bulk copy engine, and the products of warpgroups (wgmma). As in ptx.cuh every
// instruction has an emulated twin, here all of them together; kernels keep no PTX of their own. Include it where LONGLIVE_SM90A is defined.
#pragma once

#include <cuda.h>

#include "device.cuh"
#include "launch.h"
#ifdef LONGLIVE_CUDA_EMULATED
#include "hopper.h"
#endif

namespace longlive::cuda {

// In front of a kernel: its blocks come in clusters.
#if defined(LONGLIVE_CUDA_EMULATED) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900)
#define LONGLIVE_CLUSTER(size)
#else
#define LONGLIVE_CLUSTER(size) __cluster_dims__(size, 1, 1)
#endif

#if defined(LONGLIVE_CUDA_EMULATED)

inline uint32_t sharedAddress(const void* p) { return emulator::sharedAddress(p); }
inline void initBarrier(uint64_t* b, int arrivals) { emulator::initBarrier(b, arrivals); }
inline void publishBarriers() { emulator::publishBarriers(); }
inline void expectBytes(uint64_t* b, int bytes) { emulator::expectBytes(b, bytes); }
inline int clusterRank() { return static_cast<int>(emulator::clusterRank()); }
inline void clusterSync() { emulator::clusterBarrier(); }
inline void arriveAt(uint64_t* b, int rank) { emulator::arrive(b, static_cast<unsigned>(rank)); }
inline void arrive(uint64_t* b) { arriveAt(b, clusterRank()); }
inline void waitFor(uint64_t* b, uint32_t parity) { emulator::waitFor(b, parity); }
inline void copyBox(void* to, const CUtensorMap* map, int column, int row, uint64_t* full) { emulator::copyBox(to, map, {column, row}, full, false); }
inline void copyBox(void* to, const CUtensorMap* map, int x0, int x1, int x2, int x3, uint64_t* full) {
  emulator::copyBox(to, map, {x0, x1, x2, x3}, full, false);
}
inline void copyBoxToBoth(void* to, const CUtensorMap* map, int column, int row, uint64_t* full) { emulator::copyBox(to, map, {column, row}, full, true); }
inline void prefetchL2(const void*, int) {}
template <int N> void giveRegistersBack() {}
template <int N> void takeRegisters() {}

inline void fence() { emulator::fenceProducts(); }
inline void commit() { emulator::commitProducts(); }
template <int N> void waitProducts() { emulator::waitProducts(N); }
template <class Sum, int N> void pin(Sum (&)[N][4]) {}
template <int N> void multiply(float (&d)[N / 8][4], uint64_t a, uint64_t b, int accumulate) {
  emulator::multiply({emulator::Element::Bf16, N, d, nullptr, a, b, false, accumulate != 0});
}
inline void multiplyRegisters(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b) {
  emulator::multiply({emulator::Element::Bf16, 128, d, a, 0, b, true, true});
}
inline void multiplyInt8(int32_t (&d)[16][4], uint64_t a, uint64_t b) { emulator::multiply({emulator::Element::Int8, 128, d, nullptr, a, b, false, true}); }
template <int N> void multiplyInt8(int32_t (&d)[N][4], uint64_t a, uint64_t b, int accumulate) {
  emulator::multiply({emulator::Element::Int8, 8 * N, d, nullptr, a, b, false, accumulate != 0});
}
inline void multiplyE4m3(float (&d)[17][4], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  emulator::multiply({emulator::Element::E4m3, 136, d, a, 0, b, false, accumulate != 0});
}

#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ __forceinline__ uint32_t sharedAddress(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void initBarrier(uint64_t* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(b)), "r"(arrivals) : "memory");
}
// For everybody, the copy engine included; a barrier of the block has to follow.
__device__ __forceinline__ void publishBarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
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

__device__ __forceinline__ void copyBox(void* to, const CUtensorMap* map, int x0, int x1, int x2, int x3, uint64_t* full) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(
                   sharedAddress(to)),
               "l"(reinterpret_cast<uint64_t>(map)), "r"(sharedAddress(full)), "r"(x0), "r"(x1), "r"(x2), "r"(x3)
               : "memory");
}

// Into the L2 cache; address and bytes are multiples of 16.
__device__ __forceinline__ void prefetchL2(const void* from, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
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

// Registers of a warpgroup's threads, from now on at most N of them, or at least.
template <int N> __device__ __forceinline__ void giveRegistersBack() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> __device__ __forceinline__ void takeRegisters() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }

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

// d = a b^T (+ d if accumulate): a 64 x 16, b N x 16. Thread (warp w, lane l) holds of d the rows 16 w + l / 4 and, in the last
// two of four, 8 more; of the columns 8 n + 2 (l % 4) and the next.
template <int N> __device__ __forceinline__ void multiply(float (&d)[N / 8][4], uint64_t a, uint64_t b, int accumulate);

#define LONGLIVE_D(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define LONGLIVE_D4(n) LONGLIVE_D(n), LONGLIVE_D(n + 1), LONGLIVE_D(n + 2), LONGLIVE_D(n + 3)
#define LONGLIVE_D8(n) LONGLIVE_D4(n), LONGLIVE_D4(n + 4)
#define LONGLIVE_R32 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LONGLIVE_R48 LONGLIVE_R32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define LONGLIVE_R64 LONGLIVE_R48 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define LONGLIVE_R88 \
  LONGLIVE_R64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87"
#define LONGLIVE_R96 LONGLIVE_R88 ",%88,%89,%90,%91,%92,%93,%94,%95"
#define LONGLIVE_R112 LONGLIVE_R96 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"
#define LONGLIVE_R128 LONGLIVE_R112 ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define LONGLIVE_PRODUCT(N, REGISTERS, A, B, ACCUMULATE, ...)                                                      \
  template <> __device__ __forceinline__ void multiply<N>(float (&d)[N / 8][4], uint64_t a, uint64_t b, int accumulate) { \
    asm volatile(                                                                                                  \
        "{\n"                                                                                                      \
        ".reg .pred p;\n"                                                                                          \
        "setp.ne.b32 p, %" #ACCUMULATE ", 0;\n"                                                                    \
        "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" REGISTERS "}, %" #A ", %" #B ", p, 1, 1, 0, 0;\n" \
        "}\n"                                                                                                      \
        : __VA_ARGS__                                                                                              \
        : "l"(a), "l"(b), "r"(accumulate));                                                                        \
  }
LONGLIVE_PRODUCT(8, "%0,%1,%2,%3", 4, 5, 6, LONGLIVE_D(0))
LONGLIVE_PRODUCT(64, LONGLIVE_R32, 32, 33, 34, LONGLIVE_D8(0))
LONGLIVE_PRODUCT(96, LONGLIVE_R48, 48, 49, 50, LONGLIVE_D8(0), LONGLIVE_D4(8))
LONGLIVE_PRODUCT(128, LONGLIVE_R64, 64, 65, 66, LONGLIVE_D8(0), LONGLIVE_D8(8))
LONGLIVE_PRODUCT(176, LONGLIVE_R88, 88, 89, 90, LONGLIVE_D8(0), LONGLIVE_D8(8), LONGLIVE_D4(16), LONGLIVE_D(20), LONGLIVE_D(21))
LONGLIVE_PRODUCT(192, LONGLIVE_R96, 96, 97, 98, LONGLIVE_D8(0), LONGLIVE_D8(8), LONGLIVE_D8(16))

// d += a b: a 64 x 16 in registers, b 16 x 128 in shared memory, read along its rows.
__device__ __forceinline__ void multiplyRegisters(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" LONGLIVE_R64 "}, {%64, %65, %66, %67}, %68, p, 1, 1, 1;\n"
      "}\n"
      : LONGLIVE_D8(0), LONGLIVE_D8(8)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#define LONGLIVE_FOUR(kind, d, n) kind(d[n][0]), kind(d[n][1]), kind(d[n][2]), kind(d[n][3])
#define LONGLIVE_ALL64(kind, d)                                                                                                            \
  LONGLIVE_FOUR(kind, d, 0), LONGLIVE_FOUR(kind, d, 1), LONGLIVE_FOUR(kind, d, 2), LONGLIVE_FOUR(kind, d, 3), LONGLIVE_FOUR(kind, d, 4),             \
      LONGLIVE_FOUR(kind, d, 5), LONGLIVE_FOUR(kind, d, 6), LONGLIVE_FOUR(kind, d, 7), LONGLIVE_FOUR(kind, d, 8), LONGLIVE_FOUR(kind, d, 9),         \
      LONGLIVE_FOUR(kind, d, 10), LONGLIVE_FOUR(kind, d, 11), LONGLIVE_FOUR(kind, d, 12), LONGLIVE_FOUR(kind, d, 13), LONGLIVE_FOUR(kind, d, 14),    \
      LONGLIVE_FOUR(kind, d, 15)

// d += a b^T: a 64 x 32, b 128 x 32 of int8, both K-major in shared memory.
__device__ __forceinline__ void multiplyInt8(int32_t (&d)[16][4], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 {" LONGLIVE_R64 "}, %64, %65, p;\n"
      "}\n"
      : LONGLIVE_ALL64("+r", d)
      : "l"(a), "l"(b));
}
#define LONGLIVE_NEXT48(kind, d)                                                                                                           \
  LONGLIVE_FOUR(kind, d, 16), LONGLIVE_FOUR(kind, d, 17), LONGLIVE_FOUR(kind, d, 18), LONGLIVE_FOUR(kind, d, 19), LONGLIVE_FOUR(kind, d, 20),        \
      LONGLIVE_FOUR(kind, d, 21), LONGLIVE_FOUR(kind, d, 22), LONGLIVE_FOUR(kind, d, 23), LONGLIVE_FOUR(kind, d, 24), LONGLIVE_FOUR(kind, d, 25),    \
      LONGLIVE_FOUR(kind, d, 26), LONGLIVE_FOUR(kind, d, 27)
#define LONGLIVE_LAST16(kind, d) LONGLIVE_FOUR(kind, d, 28), LONGLIVE_FOUR(kind, d, 29), LONGLIVE_FOUR(kind, d, 30), LONGLIVE_FOUR(kind, d, 31)
// d = a b^T (+ d if accumulate): a 64 x 32, b N x 32 of int8, both K-major in shared memory.
#define LONGLIVE_INT8_PRODUCT(N, REGISTERS, A, B, ACCUMULATE, ...)                                                      \
  __device__ __forceinline__ void multiplyInt8(int32_t (&d)[N / 8][4], uint64_t a, uint64_t b, int accumulate) {             \
    asm volatile(                                                                                                       \
        "{\n"                                                                                                           \
        ".reg .pred p;\n"                                                                                               \
        "setp.ne.b32 p, %" #ACCUMULATE ", 0;\n"                                                                         \
        "wgmma.mma_async.sync.aligned.m64n" #N "k32.s32.s8.s8 {" REGISTERS "}, %" #A ", %" #B ", p;\n"                      \
        "}\n"                                                                                                           \
        : __VA_ARGS__                                                                                                   \
        : "l"(a), "l"(b), "r"(accumulate));                                                                             \
  }
LONGLIVE_INT8_PRODUCT(224, LONGLIVE_R112, 112, 113, 114, LONGLIVE_ALL64("+r", d), LONGLIVE_NEXT48("+r", d))
LONGLIVE_INT8_PRODUCT(256, LONGLIVE_R128, 128, 129, 130, LONGLIVE_ALL64("+r", d), LONGLIVE_NEXT48("+r", d), LONGLIVE_LAST16("+r", d))
// d = a b^T (+ d if accumulate): a 64 x 32 of e4m3 in registers, b 136 x 32, K-major in shared memory.
__device__ __forceinline__ void multiplyE4m3(float (&d)[17][4], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %73, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n136k32.f32.e4m3.e4m3 {" LONGLIVE_R64
      ", %64, %65, %66, %67}, {%68, %69, %70, %71}, %72, p, 1, 1;\n"
      "}\n"
      : LONGLIVE_ALL64("+f", d), LONGLIVE_FOUR("+f", d, 16)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}

#endif

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// One of the two boxes of what the blocks of a cluster read: if both read the same, each copies one into both, else all of its own.
__device__ __forceinline__ void copyHalf(bool same, int half, int rank, void* to, const CUtensorMap* map, int column, int row, uint64_t* full) {
  if (!same) copyBox(to, map, column, row, full);
  else if (half == rank) copyBoxToBoth(to, map, column, row, full);
}

// By a whole warp: whoever copies next into both blocks of a cluster, of either one, waits for both.
__device__ __forceinline__ void arriveAtBoth(uint64_t* b, int lane) {
  if (lane < 2) arriveAt(b, lane);
}

// Which stage of a ring is next, and in which round.
struct Turn {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void next(int stages) {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
};

// Shared memory as wgmma sees it: 128-byte swizzle, groups of 8 rows 1024 bytes apart; for operands read along their rows,
// `leading` bytes from one block of 64 columns to the next.
__device__ __forceinline__ uint64_t describe(const void* p, int leading) {
  return static_cast<uint64_t>((sharedAddress(p) & 0x3ffff) >> 4) | static_cast<uint64_t>(leading >> 4) << 16 |
         static_cast<uint64_t>(1024 >> 4) << 32 | uint64_t{1} << 62;
}

// The same, `bytes` further on.
__device__ __forceinline__ uint64_t further(uint64_t description, int bytes) { return description + static_cast<uint64_t>(bytes >> 4); }

// Rows of RowBytes (128 or 64, which is also the swizzle's span); `groupBytes` from eight rows to the next eight. The swizzle
// is one of addresses, so rows may begin anywhere in a copied box, as long as the box begins where the swizzle does.
template <int RowBytes> __device__ __forceinline__ uint64_t describe(uint32_t address, int groupBytes) {
  static_assert(RowBytes == 128 || RowBytes == 64);
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | uint64_t{1} << 16 | static_cast<uint64_t>(groupBytes >> 4) << 32 |
         uint64_t{RowBytes == 128 ? 1 : 2} << 62;
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

// A tensor of up to four axes, innermost first, for copies of boxes. Outside of it there are zeros. False: the driver does not know how.
template <int Rank>
bool encodeTensorMap(CUtensorMap* map, CUtensorMapDataType type, int elementBytes, const void* data, const int64_t (&size)[Rank], const int (&box)[Rank],
                     CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B) {
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
  cuuint64_t sizes[Rank], strides[Rank];  // strides of all axes but the innermost, in bytes
  cuuint32_t boxes[Rank], steps[Rank];
  cuuint64_t bytes = static_cast<cuuint64_t>(elementBytes);
  for (int i = 0; i < Rank; ++i) {
    sizes[i] = static_cast<cuuint64_t>(size[i]), boxes[i] = static_cast<cuuint32_t>(box[i]), steps[i] = 1;
    strides[i] = bytes *= sizes[i];
  }
  return function && function(map, type, Rank, const_cast<void*>(data), sizes, strides, boxes, steps,
                              CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace longlive::cuda

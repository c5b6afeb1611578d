// Runs CUDA kernels on the processor, so that their arithmetic, indexing and synchronisation are tested where no GPU is.
//
// The sources of ops/cuda are compiled as plain C++ with this folder before any toolkit in the include path and
// LONGLIVE_CUDA_EMULATED defined. Every thread of a block becomes a fibre; blocks run one after another, those of a cluster together.
//   * __syncthreads and warp operations (shuffles, ldmatrix, mma) suspend a fibre until the others have arrived; a thread
//     that never arrives is reported as a deadlock, and so is anything else that waits for ever.
//   * LONGLIVE_EMULATOR_ORDER=reverse runs the threads in the opposite order: a missing barrier shows as another result.
//   * cp.async copies happen when they are waited for (the latest legal time) or, with LONGLIVE_EMULATOR_COPIES=eager, when
//     they are issued (the earliest): a missing wait or a buffer reused too early shows as another result.
//   * What Hopper has of its own, barriers in shared memory, copies of boxes, products of warpgroups and clusters: hopper.h.
//   * Shared memory starts as NaN in every block. What is __shared__ by declaration all blocks of a cluster would have in common: kernels
//     that come in clusters take theirs from the launch.
//   * Streams keep order within themselves only. With LONGLIVE_EMULATOR_STREAMS=late (or emulator::lateStreams) nothing runs
//     before the host waits for it, and then only what that wait needs: an event that is missing shows as another result. With
//     emulator::jealousStreams all other streams run first then, as far as events let them.
//   * Graphs are captured, updated and launched as what they are: lists of launches with the arguments they had.
//   * The chip is one of 8.0, unless told otherwise (LONGLIVE_EMULATOR_CHIP=9.0, or emulator::capability).
//   * Faults and a small memory can be ordered (emulator::failLaunch, emulator::limitMemory).
// It is not a model of speed, of memory ordering between warps, or of the PTX text itself: that needs a device.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__
#define __CUDA_ARCH_FEAT_SM90_ALL  // kernels for Hopper have their bodies
#define CUDART_VERSION 13000

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) { return {a, b, c, d}; }
inline uint2 make_uint2(unsigned a, unsigned b) { return {a, b}; }
inline float2 make_float2(float a, float b) { return {a, b}; }
inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }

namespace emulator {

struct Position {
  dim3 block, thread, grid, blockSize;
};
extern Position position;  // of the running fibre

// As the environment says; for tests.
struct Schedule { bool reverse, eagerCopies; };
extern Schedule schedule;

// Runs `body` once per thread.
void run(dim3 grid, unsigned clusterSize, unsigned threads, size_t sharedBytes, const std::function<void()>& body);
void barrier();
// Every thread of the warp passes its operand; the last to arrive computes for all.
void warp(void* operand, void (*compute)(void** operands));
unsigned char* dynamicShared();
void asyncCopy(void* to, const void* from, size_t bytes, size_t readable);
void asyncCommit();
void asyncWait(int pending);

template <class T, class Source>
T shuffle(T value, Source source) {
  struct Lane { T value, result; int from; };
  Lane lane{value, value, source(static_cast<int>(position.thread.x % 32))};
  warp(&lane, [](void** all) {
    for (int i = 0; i < 32; ++i)
      if (all[i]) {
        Lane& l = *static_cast<Lane*>(all[i]);
        if (l.from >= 0 && l.from < 32 && all[l.from]) l.result = static_cast<Lane*>(all[l.from])->value;
      }
  });
  return lane.result;
}

}  // namespace emulator

inline const dim3 &threadIdx = emulator::position.thread, &blockIdx = emulator::position.block, &gridDim = emulator::position.grid,
                  &blockDim = emulator::position.blockSize;

inline void __syncthreads() { ::emulator::barrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) {
  int nothing = 0;
  ::emulator::warp(&nothing, [](void**) {});
}
template <class T> T __shfl_xor_sync(unsigned, T v, int mask) { return ::emulator::shuffle(v, [mask](int l) { return l ^ mask; }); }
template <class T> T __shfl_sync(unsigned, T v, int lane) { return ::emulator::shuffle(v, [lane](int) { return lane; }); }
inline bool __any_sync(unsigned, bool predicate) {
  struct Lane { bool mine, any; };
  Lane lane{predicate, false};
  ::emulator::warp(&lane, [](void** all) {
    bool any = false;
    for (int i = 0; i < 32; ++i) any = any || (all[i] && static_cast<Lane*>(all[i])->mine);
    for (int i = 0; i < 32; ++i)
      if (all[i]) static_cast<Lane*>(all[i])->any = any;
  });
  return lane.any;
}
using std::max, std::min;
inline int __vimax3_s32(int a, int b, int c) { return max(max(a, b), c); }
inline float __saturatef(float x) { return x > 0.0f ? min(x, 1.0f) : 0.0f; }  // NaN: 0
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(high) << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= static_cast<unsigned>(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}
inline float __int_as_float(int i) { float f; std::memcpy(&f, &i, 4); return f; }
inline int __float_as_int(float f) { int i; std::memcpy(&i, &f, 4); return i; }
inline float __uint_as_float(unsigned u) { float f; std::memcpy(&f, &u, 4); return f; }
inline unsigned __float_as_uint(float f) { unsigned u; std::memcpy(&u, &f, 4); return u; }
inline long long __double_as_longlong(double d) { long long i; std::memcpy(&i, &d, 8); return i; }
inline double __longlong_as_double(long long i) { double d; std::memcpy(&d, &i, 8); return d; }
inline float exp2f_emulated(float x) { return std::exp2(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }

// -- the part of the runtime's API that the backend calls -------------------------------------------------------------------

namespace emulator {
struct Stream;
struct Event;
struct Graph;
}  // namespace emulator

using cudaStream_t = emulator::Stream*;
using cudaEvent_t = emulator::Event*;
using cudaGraph_t = emulator::Graph*;
using cudaGraphExec_t = emulator::Graph*;
enum cudaError_t {
  cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2, cudaErrorInsufficientDriver = 35, cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101, cudaErrorInvalidResourceHandle = 400,
  cudaErrorECCUncorrectable = 214, cudaErrorIllegalAddress = 700, cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901, cudaErrorGraphExecUpdateFailure = 910
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess = 0, cudaDriverEntryPointSymbolNotFound = 1 };
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension = 4 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
struct cudaGraphExecUpdateResultInfo { int result; };
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;
constexpr unsigned long long cudaEnableDefault = 0;
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct { struct { unsigned x, y, z; } clusterDim; } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

namespace emulator {
struct Capability { int major, minor; };
extern Capability capability;  // of the emulated chip; tests change it, LONGLIVE_EMULATOR_CHIP says what it is at first ("9.0")
// Shared memory that a block of it may have.
inline int sharedLimit() {
  const auto [major, minor] = capability;
  return ((major == 8 && minor != 0 && minor != 7) || major == 12 ? 99 : major == 8 ? 163 : 227) << 10;
}
}  // namespace emulator

struct cudaDeviceProp {
  char name[256] = "emulated GPU";
  size_t totalGlobalMem = size_t{4} << 30, sharedMemPerBlockOptin = static_cast<size_t>(emulator::sharedLimit());
  int major = emulator::capability.major, minor = emulator::capability.minor, multiProcessorCount = 4;
};
struct cudaFuncAttributes { int ptxVersion = 0; };

namespace emulator {

// Puts work on a stream, or into the graph that is being captured there. `what` tells kernels apart.
cudaError_t enqueue(cudaStream_t stream, const void* what, std::function<void()> work);

template <class... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, unsigned clusterSize, unsigned threads, size_t shared, cudaStream_t stream, Parameters... arguments) {
  return enqueue(stream, reinterpret_cast<const void*>(kernel), [=, values = std::make_tuple(arguments...)] {
    run(grid, clusterSize, threads, shared, [&] { std::apply(kernel, values); });
  });
}

// For tests.
void lateStreams(bool late);
void jealousStreams(bool jealous);  // late, and what a wait needs comes last
// The n-th piece of work from now fails as a device fault does: it and everything after it is lost. 0: the device is well again.
void failLaunch(int n, cudaError_t error = cudaErrorIllegalAddress);
void limitMemory(size_t bytes);  // of all allocations together; 0: none
size_t memoryUsed();
size_t memoryUsedOf(int device);
// How many devices there are, one at first; every thread begins with device 0. A stream takes work of its own device alone, which must be the
// thread's current one, and events that were made on it.
void setDevices(int count);
void setClusters(int device, int clusters);  // that run at the same time there; few at first, so that a grid that stays has several turns
void refuseCaptures(bool refuse);  // what is captured from now on
struct Counts { int64_t launches, graphLaunches, captures, updates, instantiations; };
Counts counts();

}  // namespace emulator

const char* cudaGetErrorString(cudaError_t);
const char* cudaGetErrorName(cudaError_t);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* n);
cudaError_t cudaSetDevice(int);
cudaError_t cudaGetDevice(int* device);
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? cudaDeviceProp{}.multiProcessorCount : emulator::sharedLimit();
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) { *p = {}; return cudaSuccess; }
template <class Kernel> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, Kernel) {
  a->ptxVersion = 10 * emulator::capability.major + emulator::capability.minor;
  return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int bytes) {
  return bytes <= emulator::sharedLimit() ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*, const cudaLaunchConfig_t*);
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned version, unsigned long long flags, cudaDriverEntryPointQueryResult* found);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
inline cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) { *least = 0, *greatest = -5; return cudaSuccess; }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned flags, int priority);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned flags = 0);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long flags = 0);
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t, cudaGraph_t, cudaGraphExecUpdateResultInfo*);
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t);
// Fresh memory is NaN and every block has a guard behind it, which cudaFree checks.
cudaError_t cudaMalloc(void** p, size_t bytes);
cudaError_t cudaFree(void* p);
cudaError_t cudaMallocHost(void** p, size_t bytes);
cudaError_t cudaFreeHost(void* p);
cudaError_t cudaMemsetAsync(void* p, int v, size_t n, cudaStream_t);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind, cudaStream_t);

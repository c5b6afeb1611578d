// Streams, events, graphs and memory of the emulated device.
#include <cuda_runtime.h>

#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace emulator {

Capability capability = [] {
  Capability c{8, 0};
  if (const char* chip = std::getenv("LONGLIVE_EMULATOR_CHIP")) std::sscanf(chip, "%d.%d", &c.major, &c.minor);
  return c;
}();

namespace {

constexpr size_t kGuard = 256;

struct Work {
  const void* what = nullptr;  // the kernel; null for copies and waits
  std::function<void()> run;
  Stream* after = nullptr;     // a wait: for this stream to have done `count` pieces
  uint64_t count = 0;
};

const char copyMark = 0;  // tells copies from kernels in graphs

}  // namespace

struct Graph {
  std::vector<Work> nodes;
  bool invalid = false;
  std::thread::id thread;  // that captures it
};

struct Stream {
  int device = 0;
  std::deque<Work> queue;
  uint64_t issued = 0, done = 0;
  std::unique_ptr<Graph> capture;
};

struct Event {
  int device = 0;
  Stream* stream = nullptr;
  uint64_t count = 0;
};

namespace {

thread_local int current = 0;  // device

// All devices together.
struct Device {
  int count = 1;
  std::set<Stream*> streams;
  struct Block { size_t bytes; int device; };
  std::map<void*, Block> blocks;
  size_t used = 0, limit = 0;
  bool refusesCaptures = false;
  std::map<int, int> clusters;
  bool late = std::getenv("LONGLIVE_EMULATOR_STREAMS") && std::strcmp(std::getenv("LONGLIVE_EMULATOR_STREAMS"), "late") == 0;
  bool jealous = false;
  int failAt = 0;
  cudaError_t failure = cudaSuccess, sticky = cudaSuccess;
  Counts counts{};
};

Device& device() {
  static auto* d = new Device;  // outlives static destructors that free
  return *d;
}

// Threads call the runtime one at a time; kernels run inside of calls.
struct Call {
  static inline std::recursive_mutex mutex;
  const std::lock_guard<std::recursive_mutex> lock{mutex};
};

// Runs the stream until it has done `count` pieces of work, and other streams as far as that needs.
void advance(Stream& s, uint64_t count) {
  Device& d = device();
  while (s.done < count && !s.queue.empty()) {
    Work work = std::move(s.queue.front());
    s.queue.pop_front();
    if (work.after && d.streams.count(work.after)) advance(*work.after, work.count);
    if (work.run && d.sticky == cudaSuccess) {
      if (d.failAt > 0 && --d.failAt == 0) d.sticky = d.failure;
      else work.run();
    }
    ++s.done;
  }
}

// The host waits for the stream to have done `count` pieces.
void waitFor(Stream& s, uint64_t count) {
  Device& d = device();
  for (Stream* other : d.streams)
    if (d.jealous && other != &s) advance(*other, other->issued);
  advance(s, count);
}

void issue(Stream& s, Work work) {
  s.queue.push_back(std::move(work));
  ++s.issued;
  if (!device().late) advance(s, s.issued);
}

// What the driver does for calls that a thread may not make while it captures a stream.
bool breaksCapture() {
  bool any = false;
  for (Stream* s : device().streams)
    if (s->capture && s->capture->thread == std::this_thread::get_id()) s->capture->invalid = any = true;
  return any;
}

cudaError_t waitForAll() {
  Device& d = device();
  for (Stream* s : d.streams) advance(*s, s->issued);
  return d.sticky;
}

}  // namespace

cudaError_t enqueue(cudaStream_t stream, const void* what, std::function<void()> work) {
  const Call call;
  Device& d = device();
  if (stream->device != current) return cudaErrorInvalidResourceHandle;
  if (stream->capture) {
    stream->capture->nodes.push_back({what, std::move(work)});
    return cudaSuccess;
  }
  if (d.sticky != cudaSuccess) return d.sticky;
  ++d.counts.launches;
  issue(*stream, {what, std::move(work)});
  return cudaSuccess;
}

void lateStreams(bool late) {
  const Call call;
  waitForAll();
  device().late = late;
}
void jealousStreams(bool jealous) {
  const Call call;
  lateStreams(jealous);
  device().jealous = jealous;
}
void failLaunch(int n, cudaError_t error) {
  const Call call;
  Device& d = device();
  d.failAt = n, d.failure = error;
  if (n == 0) d.sticky = cudaSuccess;
}
void limitMemory(size_t bytes) {
  const Call call;
  device().limit = bytes;
}
size_t memoryUsed() {
  const Call call;
  return device().used;
}
size_t memoryUsedOf(int index) {
  const Call call;
  size_t bytes = 0;
  for (const auto& [address, block] : device().blocks) bytes += block.device == index ? block.bytes : 0;
  return bytes;
}
void setDevices(int count) {
  const Call call;
  device().count = count;
}
void setClusters(int index, int clusters) {
  const Call call;
  device().clusters[index] = clusters;
}
void refuseCaptures(bool refuse) {
  const Call call;
  device().refusesCaptures = refuse;
}
Counts counts() {
  const Call call;
  return device().counts;
}

}  // namespace emulator

using emulator::Call;
using emulator::device;

const char* cudaGetErrorString(cudaError_t e) {
  switch (e) {
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorECCUncorrectable: return "uncorrectable ECC error encountered";
    case cudaErrorMemoryAllocation: return "out of memory";
    default: return "emulated error";
  }
}
const char* cudaGetErrorName(cudaError_t e) {
  switch (e) {
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorECCUncorrectable: return "cudaErrorECCUncorrectable";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    default: return "cudaErrorEmulated";
  }
}
cudaError_t cudaGetLastError() {
  const Call call;
  return device().sticky;
}

cudaError_t cudaGetDeviceCount(int* n) {
  const Call call;
  return *n = device().count, cudaSuccess;
}
cudaError_t cudaSetDevice(int index) {
  const Call call;
  if (index < 0 || index >= device().count) return cudaErrorInvalidDevice;
  return emulator::current = index, cudaSuccess;
}
cudaError_t cudaGetDevice(int* index) { return *index = emulator::current, cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*, const cudaLaunchConfig_t*) {
  const Call call;
  const auto told = device().clusters.find(emulator::current);
  return *clusters = told == device().clusters.end() ? 7 : told->second, cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned, int) {
  const Call call;
  *s = new emulator::Stream;
  (*s)->device = emulator::current;
  device().streams.insert(*s);
  return device().sticky;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  const Call call;
  emulator::advance(*s, s->issued);
  device().streams.erase(s);
  delete s;
  return device().sticky;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  const Call call;
  if (emulator::breaksCapture()) return cudaErrorStreamCaptureUnsupported;
  emulator::waitFor(*s, s->issued);
  return device().sticky;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  const Call call;
  if (s->capture) return emulator::breaksCapture(), cudaErrorStreamCaptureUnsupported;  // no forks in this project's graphs
  if (e->stream) emulator::issue(*s, {nullptr, nullptr, e->stream, e->count});
  return device().sticky;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  const Call call;
  *e = new emulator::Event{emulator::current};
  return device().sticky;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  const Call call;
  delete e;
  return device().sticky;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  const Call call;
  if (s->capture) return emulator::breaksCapture(), cudaErrorStreamCaptureUnsupported;
  if (e->device != s->device) return cudaErrorInvalidResourceHandle;
  e->stream = s, e->count = s->issued;
  return device().sticky;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  const Call call;
  if (e->stream && device().streams.count(e->stream)) emulator::waitFor(*e->stream, e->count);
  return device().sticky;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
  const Call call;
  if (s->capture) return cudaErrorInvalidValue;
  s->capture = std::make_unique<emulator::Graph>();
  s->capture->thread = std::this_thread::get_id();
  ++device().counts.captures;
  return device().sticky;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  const Call call;
  *graph = nullptr;
  const std::unique_ptr<emulator::Graph> captured = std::move(s->capture);
  if (!captured) return cudaErrorInvalidValue;
  if (captured->invalid || device().refusesCaptures) return cudaErrorStreamCaptureInvalidated;
  *graph = new emulator::Graph(*captured);
  return device().sticky;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const Call call;
  *exec = new emulator::Graph(*graph);
  ++device().counts.instantiations;
  return device().sticky;
}
// The same nodes in the same order; only their arguments may differ.
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo*) {
  const Call call;
  if (exec->nodes.size() != graph->nodes.size()) return cudaErrorGraphExecUpdateFailure;
  for (size_t i = 0; i < graph->nodes.size(); ++i)
    if (exec->nodes[i].what != graph->nodes[i].what) return cudaErrorGraphExecUpdateFailure;
  exec->nodes = graph->nodes;
  ++device().counts.updates;
  return device().sticky;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
  const Call call;
  if (s->capture) return cudaErrorInvalidValue;
  if (device().sticky != cudaSuccess) return device().sticky;
  ++device().counts.graphLaunches;
  for (const emulator::Work& w : exec->nodes) emulator::issue(*s, w);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
  const Call call;
  return delete g, device().sticky;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) {
  const Call call;
  return delete g, device().sticky;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const Call call;
  const emulator::Device& d = device();
  *total = d.limit ? d.limit : cudaDeviceProp{}.totalGlobalMem;
  *free = *total > d.used ? *total - d.used : 0;
  return d.sticky;
}

cudaError_t cudaMalloc(void** p, size_t bytes) {
  const Call call;
  emulator::Device& d = device();
  if (emulator::breaksCapture()) return cudaErrorStreamCaptureUnsupported;
  if (d.sticky != cudaSuccess) return d.sticky;
  if (d.limit && d.used + bytes > d.limit) return cudaErrorMemoryAllocation;
  const size_t room = (bytes + 2 * emulator::kGuard) / 256 * 256;
  *p = std::aligned_alloc(256, room);
  if (!*p) return cudaErrorMemoryAllocation;
  std::memset(*p, 0xff, room);
  d.blocks[*p] = {bytes, emulator::current};
  d.used += bytes;
  return cudaSuccess;
}

// Waits for the device, as the real one does.
cudaError_t cudaFree(void* p) {
  const Call call;
  if (!p) return cudaSuccess;
  emulator::waitForAll();
  emulator::Device& d = device();
  const size_t bytes = d.blocks.at(p).bytes;
  const auto* guard = static_cast<unsigned char*>(p) + bytes;
  for (size_t i = 0; i < emulator::kGuard / 2; ++i)
    if (guard[i] != 0xff) {
      std::fprintf(stderr, "emulator: a write behind device memory of %zu bytes\n", bytes);
      std::abort();
    }
  d.blocks.erase(p);
  d.used -= bytes;
  std::free(p);
  return d.sticky;
}

cudaError_t cudaMallocHost(void** p, size_t bytes) {
  const Call call;
  *p = std::malloc(bytes);
  return *p ? device().sticky : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* p) {
  const Call call;
  emulator::waitForAll();
  std::free(p);
  return device().sticky;
}
cudaError_t cudaMemsetAsync(void* p, int v, size_t n, cudaStream_t s) {
  const Call call;
  return emulator::enqueue(s, &emulator::copyMark, [=] { std::memset(p, v, n); });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind, cudaStream_t s) {
  const Call call;
  return emulator::enqueue(s, &emulator::copyMark, [=] { std::memmove(to, from, n); });
}

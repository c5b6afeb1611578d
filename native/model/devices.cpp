#include "devices.h"

#include <algorithm>

#include "longlive/error.h"

namespace longlive {

namespace {

struct Device {
  DeviceKind kind;
  std::unique_ptr<Backend> (*make)(const BackendOptions&);
  std::unique_ptr<BackendMemory> (*memory)(const BackendOptions&);
  int (*count)();
};

// In the order that they are listed in.
constexpr Device kDevices[] = {
    {DeviceKind::Cpu, makeCpuBackend, cpuMemory, [] { return 1; }},
    {DeviceKind::Cuda, makeCudaBackend, cudaMemory, cudaDevices},
};

const Device& deviceOf(DeviceKind kind) {
  return *std::find_if(std::begin(kDevices), std::end(kDevices), [kind](const Device& d) { return d.kind == kind; });
}

BackendOptions backendOptions(const LoadOptions& o) {
  BackendOptions b;
  b.precision = o.precision, b.threads = o.threads, b.isa = o.isa, b.attention = o.attention, b.keyValues = o.kv;
  b.deviceIndex = o.deviceIndex;
  return b;
}

// A driver that refuses to record this records nothing of a model either.
void tryRecording(Backend& backend) {
  const auto memory = backend.allocate(64);
  std::unique_ptr<Recording> recording;
  for (int time = 0; time < 2; ++time) backend.replay(recording, 0, [&] { backend.fill({memory->data, DType::U8, {64}}, 0); });
  backend.synchronize();
}

DeviceStatus statusOf(DeviceKind kind, int index) {
  DeviceStatus s;
  s.kind = kind, s.index = index;
  try {
    LoadOptions options;
    options.device = kind, options.deviceIndex = index;
    const auto backend = makeBackend(options);
    if (backend->replays()) tryRecording(*backend);
    s.refusedRecordings = backend->refusedRecordings();
    const DeviceInfo info = backend->info();
    s.available = true;
    s.detail = info.name, s.isa = info.isa, s.totalMemory = info.totalMemory, s.threads = info.threads;
  } catch (const Error& e) {
    s.detail = e.what();
  }
  return s;
}

}  // namespace

std::unique_ptr<Backend> makeBackend(const LoadOptions& options) { return deviceOf(options.device).make(backendOptions(options)); }

std::unique_ptr<BackendMemory> backendMemory(const LoadOptions& options) { return deviceOf(options.device).memory(backendOptions(options)); }

// One of each kind at least, which says why there is none.
std::vector<DeviceStatus> listDevices() {
  std::vector<DeviceStatus> all;
  for (const Device& device : kDevices) {
    for (int i = 0; i < std::max(1, device.count()); ++i) all.push_back(statusOf(device.kind, i));
  }
  return all;
}

}  // namespace longlive

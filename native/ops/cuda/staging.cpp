#include "staging.h"

#include <algorithm>
#include <cstring>

#include "kernels.h"
#include "launch.h"

namespace longlive::cuda {

namespace {

Tensor part(const Tensor& t, size_t first, size_t count) {
  return t.view({t.elements()}).rows(static_cast<int64_t>(first), static_cast<int64_t>(count));
}

Tensor floats(void* p, size_t count) { return {p, DType::F32, {static_cast<int64_t>(count)}}; }

}  // namespace

Staging::Staging() {
  for (int i = 0; i < 2; ++i) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, kHalf), "pinned memory");
    pinned_[i].reset(memory);
    check(cudaMalloc(&memory, kHalf), "staging memory");
    device_[i].reset(memory);
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
    free_[i].reset(event);
  }
}

template <class Issue> void Staging::feed(cudaStream_t stream, const void* host, size_t bytes, Issue issue) {
  for (size_t offset = 0, i = 0; offset < bytes; offset += kHalf, i ^= 1) {
    const size_t n = std::min(kHalf, bytes - offset);
    check(cudaEventSynchronize(free_[i].get()), "upload");
    std::memcpy(pinned_[i].get(), static_cast<const char*>(host) + offset, n);
    issue(i, offset, n);
    check(cudaEventRecord(free_[i].get(), stream), "upload");
  }
}

template <class Issue> void Staging::drain(cudaStream_t stream, void* host, size_t bytes, Issue issue) {
  const size_t chunks = (bytes + kHalf - 1) / kHalf;
  const auto length = [&](size_t chunk) { return std::min(kHalf, bytes - chunk * kHalf); };
  for (size_t chunk = 0; chunk <= chunks; ++chunk) {
    if (chunk < chunks) {
      issue(chunk % 2, chunk * kHalf, length(chunk));
      check(cudaEventRecord(free_[chunk % 2].get(), stream), "download");
    }
    if (chunk > 0) {
      check(cudaEventSynchronize(free_[(chunk - 1) % 2].get()), "download");
      std::memcpy(static_cast<char*>(host) + (chunk - 1) * kHalf, pinned_[(chunk - 1) % 2].get(), length(chunk - 1));
    }
  }
}

void Staging::upload(cudaStream_t stream, const Tensor& out, const float* host) {
  require(isFloat(out), "upload: F32 or BF16 expected");
  if (out.dtype == DType::F32) return uploadBytes(stream, out.data, host, out.bytes());
  feed(stream, host, static_cast<size_t>(out.elements()) * sizeof(float), [&](size_t i, size_t offset, size_t n) {
    const size_t count = n / sizeof(float);
    check(cudaMemcpyAsync(device_[i].get(), pinned_[i].get(), n, cudaMemcpyHostToDevice, stream), "upload");
    convert(stream, part(out, offset / sizeof(float), count), floats(device_[i].get(), count));
  });
}

void Staging::uploadBytes(cudaStream_t stream, void* device, const void* host, size_t bytes) {
  feed(stream, host, bytes, [&](size_t i, size_t offset, size_t n) {
    check(cudaMemcpyAsync(static_cast<char*>(device) + offset, pinned_[i].get(), n, cudaMemcpyHostToDevice, stream), "upload");
  });
}

void Staging::download(cudaStream_t stream, float* host, const Tensor& in) {
  require(isFloat(in), "download: F32 or BF16 expected");
  if (in.dtype == DType::F32) return downloadBytes(stream, host, in.data, in.bytes());
  drain(stream, host, static_cast<size_t>(in.elements()) * sizeof(float), [&](size_t i, size_t offset, size_t n) {
    const size_t count = n / sizeof(float);
    convert(stream, floats(device_[i].get(), count), part(in, offset / sizeof(float), count));
    check(cudaMemcpyAsync(pinned_[i].get(), device_[i].get(), n, cudaMemcpyDeviceToHost, stream), "download");
  });
}

void Staging::downloadBytes(cudaStream_t stream, void* host, const void* device, size_t bytes) {
  drain(stream, host, bytes, [&](size_t i, size_t offset, size_t n) {
    check(cudaMemcpyAsync(pinned_[i].get(), static_cast<const char*>(device) + offset, n, cudaMemcpyDeviceToHost, stream), "download");
  });
}

}  // namespace longlive::cuda

#include "volume_stream.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace longlive {
namespace {

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

size_t bytesOf(DType type, const Shape& shape) { return static_cast<size_t>(shape.elements()) * sizeOf(type); }

Tensor bytesAt(const Storage& storage, size_t offset, size_t bytes) {
  return {static_cast<char*>(storage.data) + offset, DType::U8, {static_cast<int64_t>(bytes)}};
}

}  // namespace

// ---- loading ----------------------------------------------------------------------------------------------------------

DeviceVector::DeviceVector(Backend& backend, const std::vector<float>& values)
    : storage_(backend.allocate(values.size() * sizeof(float))),
      tensor_{storage_->data, DType::F32, {static_cast<int64_t>(values.size())}} {
  backend.upload(tensor_, values.data());
}

Conv VolumeLoader::pack(const std::vector<float>& weight, const float* bias, Kernel k, bool sensitive, bool upsample2x, Bounds bounds) {
  Conv conv{backend_.prepareConv(weight.data(), bias, k.out, k.in, k.t, k.h, k.w, sensitive, upsample2x, bounds), -1};
  countBytes(conv.weights->bytes);
  return conv;
}

Conv VolumeLoader::plain(const std::string& name, Kernel k, Shape weightShape, bool upsample2x, bool hasBias) {
  const std::vector<float> weight = reader_.read(name + ".weight", weightShape);
  const std::vector<float> bias = hasBias ? reader_.read(name + ".bias", {k.out}) : std::vector<float>(k.out);
  return pack(weight, bias.data(), k, false, upsample2x);
}

Conv VolumeLoader::causal(const std::string& name, Kernel k, bool sensitive, Bounds bounds) {
  const std::vector<float> weight = reader_.read(name + ".weight", {k.out, k.in, k.t, k.h, k.w});
  const std::vector<float> bias = reader_.read(name + ".bias", {k.out});
  Conv conv = pack(weight, bias.data(), k, sensitive, false, bounds);
  if (k.t > 1) conv.slot = nextSlot();
  return conv;
}

DeviceVector VolumeLoader::vector(const std::string& name, Shape shape) {
  countBytes(shape.elements() * sizeof(float));
  return DeviceVector(backend_, reader_.read(name, shape));
}

// A norm makes sqrt(C) * gamma of a pixel's direction, of which no component is longer than 1; SiLU takes nothing below its least value, and
// makes nothing longer.
Norm VolumeLoader::norm(const std::string& name, Shape shape) {
  constexpr float kLeastSilu = -0.27846455f;
  countBytes(shape.elements() * sizeof(float));
  const std::vector<float> gamma = reader_.read(name, shape);
  float largest = 0;
  for (float g : gamma) largest = std::max(largest, std::fabs(g));
  const Bounds silu{kLeastSilu, std::sqrt(static_cast<float>(gamma.size())) * largest};
  return {DeviceVector(backend_, gamma), eightBit_ ? silu : Bounds{}};
}

// ---- planning ---------------------------------------------------------------------------------------------------------

void VolumePlan::need(Role role, DType type, const Shape& shape) {
  size_t& bytes = bytes_[static_cast<size_t>(role)];
  bytes = std::max(bytes, bytesOf(type, shape));
}

void VolumePlan::history(const Conv& conv, int64_t frames, const Shape& input) {
  if (conv.slot >= 0) histories_.at(conv.slot) = {conv.weights->input, {frames, input[1], input[2], input[3]}, conv.weights->code.zero};
}

// ---- running ----------------------------------------------------------------------------------------------------------

VolumeStream::VolumeStream(const VolumePlan& plan) : backend_(plan.backend_) {
  size_t total = 0;
  for (const VolumePlan::History& h : plan.histories_) total += aligned(bytesOf(h.type, h.shape));
  for (size_t bytes : plan.bytes_) total += aligned(bytes);
  storage_ = backend_.allocate(std::max<size_t>(total, 64));
  size_t offset = 0;
  for (const VolumePlan::History& h : plan.histories_) {
    histories_.push_back({static_cast<char*>(storage_->data) + offset, h.type, h.shape});
    zeros_.push_back(h.zero);
    offset += aligned(bytesOf(h.type, h.shape));
  }
  for (size_t i = 0; i < roles_.size(); ++i) {
    roles_[i] = bytesAt(*storage_, offset, plan.bytes_[i]);
    offset += aligned(plan.bytes_[i]);
  }
  reset();
}

void VolumeStream::reset() {
  for (size_t i = 0; i < histories_.size(); ++i) backend_.fill(histories_[i], zeros_[i]);
  first = true;
}

Tensor VolumeStream::buffer(Role role, DType type, const Shape& shape) const {
  const Tensor& memory = roles_[static_cast<size_t>(role)];
  if (bytesOf(type, shape) > memory.bytes()) throw std::logic_error("volume stream: buffer was planned too small");
  return {memory.data, type, shape};
}

void VolumeStream::run(Backend::ConvArgs args, const Conv& conv, const Tensor& out, const Tensor& in) {
  args.out = out, args.in = in, args.weights = conv.weights.get();
  if (conv.slot >= 0) args.history = histories_[conv.slot];
  backend_.conv(args);
  if (conv.slot >= 0) remember(conv, in);
}

void VolumeStream::remember(const Conv& conv, const Tensor& in) {
  const Tensor& history = histories_.at(conv.slot);
  const int64_t kept = history.shape[0], fresh = std::min(kept, in.shape[0]);
  for (int64_t i = 0; i < kept - fresh; ++i) backend_.copy(history.rows(i, 1), history.rows(i + fresh, 1));
  backend_.copy(history.rows(kept - fresh, fresh), in.rows(in.shape[0] - fresh, fresh));
}

}  // namespace longlive

#include "planning.h"

#include <utility>

namespace longlive {

namespace {

constexpr size_t kAllocation = 512;  // what a device rounds up to

struct Counted final : Storage {
  Counted(size_t& held, size_t n) : held_(held) {
    data = reinterpret_cast<void*>(uintptr_t{1} << 40);  // tensors of nothing; never looked at
    bytes = n, counted_ = (std::max<size_t>(n, 1) + kAllocation - 1) / kAllocation * kAllocation;
    held_ += counted_;
  }
  ~Counted() override { held_ -= counted_; }

 private:
  size_t& held_;
  size_t counted_;
};

struct PlannedLinear final : LinearWeights {
  LinearShape shape;
  std::vector<std::unique_ptr<Storage>> parts;
};
struct PlannedConv final : ConvWeights {
  std::vector<std::unique_ptr<Storage>> parts;
};

template <class Weights>
void hold(Weights& w, Backend& backend, const std::vector<size_t>& sizes) {
  for (size_t bytes : sizes) w.parts.push_back(backend.allocate(bytes)), w.bytes += bytes;
}

class PlannedKeyValues final : public KeyValues {
 public:
  PlannedKeyValues(PlanningBackend& backend, const KeyValueLayout& layout) : KeyValues(backend, layout), planning_(backend) {
    bytes_ = backend.memory().keyValues(layout), workingBytes_ = backend.memory().keyValuesWorking(layout);
    storage_ = backend.allocate(bytes_), working_ = backend.allocate(workingBytes_);
    Arena nothing;
    rows_ = takeKeysAndValues(nothing, layout, backend.kvType());
  }
  void append(const AppendArgs& a) override {
    planning_.linear(a.scratch, a.in, *a.key, {}), planning_.linear(a.scratch, a.in, *a.value, {});
    planning_.need(planning_.memory().appendScratch(layout_, a));
  }
  void attend(const AttendArgs& a) override { planning_.need(planning_.memory().attendScratch(layout_, a)); }

 private:
  PlanningBackend& planning_;
  std::unique_ptr<Storage> storage_, working_;
};

}  // namespace

std::unique_ptr<Storage> PlanningBackend::allocate(size_t bytes) {
  auto storage = std::make_unique<Counted>(held_, bytes);
  highest_ = std::max(highest_, held_);
  return storage;
}

size_t PlanningBackend::working() const {
  size_t bytes = memory_->fixed();
  for (const LaneScratch& s : scratch_) bytes += s.rows.held + s.matrix.held + s.threads;
  return bytes;
}

std::unique_ptr<LinearWeights> PlanningBackend::loadLinear(const StoredMatrix& m, const float* bias, EightBit eightBit) {
  auto w = std::make_unique<PlannedLinear>();
  w->in = m.in, w->out = m.out;
  w->shape = {m.out, m.in, bias != nullptr, eightBit, m.dtype};
  hold(*w, *this, memory_->linear(w->shape));
  need(memory_->preparation(w->shape));
  return w;
}

std::unique_ptr<ConvWeights> PlanningBackend::prepareConv(const float*, const float* bias, int64_t out, int64_t in, int kt, int kh, int kw,
                                                          bool sensitive, bool upsample2x, Bounds bounds) {
  auto w = std::make_unique<PlannedConv>();
  w->in = in, w->out = out, w->kt = kt, w->kh = kh, w->kw = kw;
  const ConvShape shape{out, in, kt, kh, kw, bias != nullptr, sensitive, upsample2x, static_cast<bool>(bounds)};
  w->input = memory_->convInput(shape);
  hold(*w, *this, memory_->conv(shape));
  need(memory_->preparation(shape));
  return w;
}

void PlanningBackend::linear(const LinearRows& out, const LinearRows& in, const LinearWeights& w, const Epilogue& e) {
  need(memory_->linearScratch(static_cast<const PlannedLinear&>(w).shape, out, in, e));
}

std::unique_ptr<KeyValues> PlanningBackend::makeKeyValues(const KeyValueLayout& layout) { return std::make_unique<PlannedKeyValues>(*this, layout); }

}  // namespace longlive

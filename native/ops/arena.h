// Planned memory: everything a session needs is laid out once, in one piece, when the session is created.
#pragma once

#include <memory>
#include <vector>

#include "ops.h"

namespace longlive {

// Hands out 64-byte aligned tensors from one block. A layout function runs twice, first on an arena that only counts.
class Arena {
 public:
  template <class Layout>
  static Arena plan(Backend& backend, Layout&& layout) {
    Arena counting;
    layout(counting);
    Arena arena;
    arena.storage_ = backend.allocate(counting.used_);
    layout(arena);
    return arena;
  }

  Tensor take(DType type, Shape shape) {
    Tensor t{storage_ ? static_cast<char*>(storage_->data) + used_ : nullptr, type, shape};
    used_ += (t.bytes() + 63) / 64 * 64;
    return t;
  }

  size_t bytes() const { return used_; }

 private:
  std::unique_ptr<Storage> storage_;
  size_t used_ = 0;
};

// Device copies of small weights (norm scales, tables), kept as long as the model.
class Parameters {
 public:
  explicit Parameters(Backend& backend) : backend_(backend) {}

  Tensor add(const std::vector<float>& values, Shape shape, DType type) {
    const Tensor t = allocate(type, shape);
    backend_.upload(t, values.data());
    return t;
  }

  // A table of rows [out, in]. Throws Error{InvalidPackage} naming it where it holds NaN or infinity.
  Tensor add(const StoredMatrix& m, DType type) {
    const Tensor t = allocate(type, {m.out, m.in});
    backend_.uploadRows(t, m);
    return t;
  }

  size_t bytes() const { return bytes_; }

 private:
  Tensor allocate(DType type, Shape shape) {
    Tensor t{nullptr, type, shape};
    storage_.push_back(backend_.allocate(t.bytes()));
    t.data = storage_.back()->data;
    bytes_ += t.bytes();
    return t;
  }

  Backend& backend_;
  std::vector<std::unique_ptr<Storage>> storage_;
  size_t bytes_ = 0;
};

}  // namespace longlive

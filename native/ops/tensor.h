// Tensor: a contiguous, row-major, non-owning view of memory that belongs to a Backend.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace longlive {

// F8_E4M3 is the kind without infinities: at most 448 (OCP 8-bit floating point).
enum class DType : uint8_t { F32, F16, BF16, F64, I8, U8, I32, I64, Bool, F8_E4M3 };

constexpr size_t sizeOf(DType t) {
  switch (t) {
    case DType::F64: case DType::I64: return 8;
    case DType::F32: case DType::I32: return 4;
    case DType::F16: case DType::BF16: return 2;
    default: return 1;
  }
}

constexpr const char* nameOf(DType t) {
  switch (t) {
    case DType::F32: return "F32"; case DType::F16: return "F16"; case DType::BF16: return "BF16";
    case DType::F64: return "F64"; case DType::I8: return "I8"; case DType::U8: return "U8";
    case DType::I32: return "I32"; case DType::I64: return "I64"; case DType::Bool: return "BOOL"; case DType::F8_E4M3: return "F8_E4M3";
  }
  return "?";
}

struct Shape {
  std::array<int64_t, 6> dims{};
  int rank = 0;

  Shape() = default;
  Shape(std::initializer_list<int64_t> d) { for (int64_t n : d) dims[rank++] = n; }
  int64_t operator[](int i) const { return dims[i < 0 ? rank + i : i]; }
  int64_t elements() const { int64_t n = 1; for (int i = 0; i < rank; ++i) n *= dims[i]; return n; }
  bool operator==(const Shape& o) const {
    if (rank != o.rank) return false;
    for (int i = 0; i < rank; ++i) if (dims[i] != o.dims[i]) return false;
    return true;
  }
};

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::F32;
  Shape shape;

  int64_t elements() const { return shape.elements(); }
  size_t bytes() const { return static_cast<size_t>(elements()) * sizeOf(dtype); }
  template <class T> T* as() const { return static_cast<T*>(data); }
  explicit operator bool() const { return data != nullptr; }

  // Rows [begin, begin + count) of the first axis.
  Tensor rows(int64_t begin, int64_t count) const {
    Tensor t = *this;
    const int64_t stride = shape.dims[0] ? elements() / shape.dims[0] : 0;
    t.data = static_cast<char*>(data) + static_cast<size_t>(begin * stride) * sizeOf(dtype);
    t.shape.dims[0] = count;
    return t;
  }
  // The same elements under another shape.
  Tensor view(Shape s) const { Tensor t = *this; t.shape = s; return t; }
};

// Rows as linear layers take them: numbers as they are, or in 8 bits with a factor for each row.
struct LinearRows {
  Tensor values;  // [n, width]
  Tensor scale;   // [n] F32, where values are I8 or F8_E4M3: row i stands for scale[i] * values[i]

  LinearRows() = default;
  LinearRows(const Tensor& t) : values(t) {}  // NOLINT: a tensor is rows as they are
  LinearRows(const Tensor& bytes, const Tensor& factors) : values(bytes), scale(factors) {}

  LinearRows rows(int64_t begin, int64_t count) const {
    return {values.rows(begin, count), scale ? scale.rows(begin, count) : Tensor{}};
  }
};

}  // namespace longlive

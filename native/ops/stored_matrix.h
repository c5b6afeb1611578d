// Weights as they lie in a file: any floating-point type, or 8 bits with a scale per row, at any alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tensor.h"

namespace longlive {

// value[row][column] = scale[row] * data[row][column]; floating-point types other than F8_E4M3 have no scale.
struct StoredMatrix {
  const void* data = nullptr;  // [out][in]
  DType dtype = DType::F32;
  int64_t out = 0, in = 0;
  std::vector<float> scale;    // [out] or empty
  std::string name;            // for messages

  const char* row(int64_t r) const { return static_cast<const char*>(data) + static_cast<size_t>(r * in) * sizeOf(dtype); }
  StoredMatrix rows(int64_t begin, int64_t count) const;
};

// n elements of a floating-point type, I8 or F8_E4M3 as F32; other types give std::logic_error.
void toFloat(float* out, const void* in, DType type, int64_t n);
// A row of a matrix as F32, scaled.
void toFloat(float* out, const StoredMatrix& m, int64_t row);
bool allFinite(const float* values, int64_t n);
// Throws Error{InvalidPackage} that says so of the matrix.
[[noreturn]] void refuseNotFinite(const StoredMatrix& m);

}  // namespace longlive

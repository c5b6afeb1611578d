// Arithmetic on weights that is done once, when a model package is made.
#pragma once

#include <cstdint>
#include <span>

namespace longlive {

// values [rows, columns] += b [rows, rank] a [rank, columns]: what merging a LoRA adapter is. Each element is summed in
// double and rounded once. On all processors this process may use. Throws Error{InvalidArgument} unless the sizes agree.
void addProduct(std::span<float> values, std::span<const double> b, std::span<const float> a, int64_t rank);

}  // namespace longlive

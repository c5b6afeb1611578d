// Takes weights out of a safetensors file by name, with the shape that the config implies, and knows what was taken.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "io/safetensors.h"

namespace longlive {

class WeightReader {
 public:
  // `prefix` is put before every name (golden files say "weights.").
  explicit WeightReader(const SafeTensors& file, std::string prefix = "");

  // F32 values in file layout. Throws Error{InvalidPackage} naming the tensor if it is missing, has another shape, is not
  // floating point, or holds NaN or infinity.
  std::vector<float> read(const std::string& name, Shape shape);
  bool has(const std::string& name) const;
  // A tensor's shape; throws if missing.
  Shape shape(const std::string& name) const;
  // Marks all tensors that begin so as known (parts of the file that this reader's user does not need).
  void ignore(const std::string& namePrefix);
  // Throws Error{InvalidPackage} naming the first tensor that nobody took.
  void finish() const;

 private:
  const SafeTensors& file_;
  std::string prefix_;
  std::unordered_set<std::string> taken_;
};

}  // namespace longlive

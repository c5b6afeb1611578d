// Takes weights out of a safetensors file by name, with the shape that the config implies, and knows what was taken.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "io/safetensors.h"
#include "ops.h"

namespace longlive {

class WeightReader {
 public:
  // `prefix` is put before every name (golden files say "weights.").
  explicit WeightReader(const SafeTensors& file, std::string prefix = "");

  // F32 values in file layout. Throws Error{InvalidPackage} naming the tensor if it is missing, has another shape, is not
  // floating point, or holds NaN or infinity.
  std::vector<float> read(const std::string& name, Shape shape);
  // A matrix as it lies in the file, its first axis against the others: floating point, or I8 or F8_E4M3 with NAME_scale
  // [rows] (docs/model-package.md). Throws as read() does, but leaves it to the matrix's user to find NaN and infinity.
  StoredMatrix matrix(const std::string& name, Shape shape);
  // A matrix that nobody will look at any more.
  void release(const std::string& name) const;
  bool has(const std::string& name) const;
  // A tensor's shape; throws if missing.
  Shape shape(const std::string& name) const;
  // Marks all tensors that begin so as known (parts of the file that this reader's user does not need).
  void ignore(const std::string& namePrefix);
  // Throws Error{InvalidPackage} naming the first tensor that nobody took.
  void finish() const;

 private:
  const Tensor& find(const std::string& name, const Shape& shape);
  std::vector<float> readScale(const std::string& name, int64_t rows);
  [[noreturn]] void fail(const std::string& name, const std::string& why) const;

  const SafeTensors& file_;
  std::string prefix_;
  std::unordered_set<std::string> taken_;
};

// NAME.weight [out, in] and, if it has one, NAME.bias [out].
std::unique_ptr<LinearWeights> loadLinear(Backend& backend, WeightReader& weights, const std::string& name, int64_t out, int64_t in,
                                          bool hasBias, EightBit eightBit);

}  // namespace longlive

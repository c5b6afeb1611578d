// What the parity program's case runners share. A case is one JSON file of a golden folder with its safetensors file;
// a runner reads everything (dims, settings, calls) from there and reports each tensor it compared.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "ops.h"

namespace longlive::parity {

struct Case {
  std::string name;       // file name without extension
  std::string directory;  // the golden folder
  Json json;
  SafeTensors tensors;  // NAME.safetensors
  SafeTensors weights;  // the weights_file if one is named, else the same file again
};

class Report {
 public:
  // Adds max|a-b| / max|b| of one tensor; `got` and `want` have `n` elements. What is not finite, in either, counts as infinite.
  void compare(const std::string& tensor, const float* got, const float* want, int64_t n);
  void compare(const std::string& tensor, const std::vector<float>& got, const std::vector<float>& want);
  // Integers must be equal.
  void compareInt(const std::string& tensor, int64_t got, int64_t want);
  void note(const std::string& text) { notes.push_back(text); }

  double worst = 0;
  std::string worstTensor;
  int64_t compared = 0;
  std::vector<std::string> integerMismatches, notes;
};

// Weights or inputs by full name, e.g. "weights.conv1.weight", as F32 or as integers.
std::vector<float> readTensor(const SafeTensors& file, const std::string& name);
// The same of a tensor that must have so many elements. Here and below: throws Error{InvalidPackage} where it is otherwise.
std::vector<float> readTensor(const SafeTensors& file, const std::string& name, int64_t elements);
Shape shapeOf(const SafeTensors& file, const std::string& name, int rank);  // none of whose dimensions is 0
std::vector<int64_t> readIntegers(const SafeTensors& file, const std::string& name);

[[noreturn]] void refuse(const std::string& what);

// Whole numbers that a case gives, which must lie in these bounds: `value` itself, or a member of an object.
int64_t within(const Json& value, const std::string& name, int64_t least, int64_t most);
int64_t wholeNumber(const Json& object, const char* key, int64_t least, int64_t most);
constexpr int64_t kMostSize = 1 << 20;
// A size of something: it may be divided by, and products of two of them fit.
inline int64_t sizeIn(const Json& object, const char* key) { return wholeNumber(object, key, 1, kMostSize); }

DitConfig ditConfig(const Json& config);

// Cases by the JSON's `kind`. Each throws on a malformed case.
void runUnits(const Case&, Backend&, Report&);         // parity_units.cpp
void runUmt5(const Case&, Backend&, Report&);          // parity_units.cpp
void runBlend(const Case&, Backend&, Report&);         // parity_units.cpp
void runDitBlock(const Case&, Backend&, Report&);      // parity_dit.cpp
void runLora(const Case&, Backend&, Report&);          // parity_dit.cpp
void runPipeline(const Case&, Backend&, Report&);      // parity_pipeline.cpp
void runVaeDecode(const Case&, Backend&, Report&);     // parity_vae.cpp
void runVaeEncode(const Case&, Backend&, Report&);     // parity_vae.cpp
void runTaehvDecode(const Case&, Backend&, Report&);   // parity_vae.cpp

}  // namespace longlive::parity

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
  // Adds max|a-b| / max|b| of one tensor; `got` and `want` have `n` elements. NaN counts as infinite.
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
std::vector<int64_t> readIntegers(const SafeTensors& file, const std::string& name);

DitConfig ditConfig(const Json& config);

// Cases by the JSON's `kind`. Each throws on a malformed case.
void runUnits(const Case&, Backend&, Report&);         // parity_units.cpp
void runUmt5(const Case&, Backend&, Report&);          // parity_units.cpp
void runDitBlock(const Case&, Backend&, Report&);      // parity_dit.cpp
void runLora(const Case&, Backend&, Report&);          // parity_dit.cpp
void runPipeline(const Case&, Backend&, Report&);      // parity_pipeline.cpp
void runVaeDecode(const Case&, Backend&, Report&);     // parity_vae.cpp
void runVaeEncode(const Case&, Backend&, Report&);     // parity_vae.cpp
void runTaehvDecode(const Case&, Backend&, Report&);   // parity_vae.cpp

}  // namespace longlive::parity

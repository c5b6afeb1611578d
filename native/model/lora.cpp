#include "lora.h"

#include <algorithm>
#include <deque>
#include <string_view>

#include "longlive/error.h"
#include "weights.h"

namespace longlive {

namespace {

bool cut(std::string& s, std::string_view prefix, std::string_view suffix) {
  if (s.size() <= prefix.size() + suffix.size() || s.compare(0, prefix.size(), prefix) != 0) return false;
  if (s.compare(s.size() - suffix.size(), suffix.size(), suffix) != 0) return false;
  s = s.substr(prefix.size(), s.size() - prefix.size() - suffix.size());
  return true;
}

}  // namespace

void mergeLora(std::vector<float>& w, const std::vector<float>& a, const std::vector<float>& b, int64_t out, int64_t in,
               int64_t rank, float scale) {
  std::vector<float> row(static_cast<size_t>(in));
  for (int64_t o = 0; o < out; ++o) {
    std::fill(row.begin(), row.end(), 0.0f);
    for (int64_t r = 0; r < rank; ++r) {
      const float f = b[static_cast<size_t>(o * rank + r)];
      for (int64_t i = 0; i < in; ++i) row[static_cast<size_t>(i)] += f * a[static_cast<size_t>(r * in + i)];
    }
    for (int64_t i = 0; i < in; ++i) w[static_cast<size_t>(o * in + i)] += scale * row[static_cast<size_t>(i)];
  }
}

std::vector<uint8_t> mergeLora(const SafeTensors& base, const std::string& basePrefix, const SafeTensors& adapter,
                               const std::string& adapterPrefix, float scale) {
  WeightReader weights(base, basePrefix), pairs(adapter, adapterPrefix);
  std::deque<std::vector<float>> values;
  std::vector<SafeTensors::Entry> merged;
  for (const auto& e : base.entries()) {
    std::string name = e.name;
    if (!cut(name, basePrefix, "")) continue;
    values.push_back(weights.read(name, e.tensor.shape));
    std::string module = name;
    if (cut(module, "", ".weight") && pairs.has(module + ".lora_A.weight")) {
      if (e.tensor.shape.rank != 2) throw Error(ErrorCode::InvalidPackage, "LoRA target \"" + name + "\" is not a matrix");
      const int64_t out = e.tensor.shape[0], in = e.tensor.shape[1];
      const int64_t rank = pairs.shape(module + ".lora_A.weight")[0];
      const auto a = pairs.read(module + ".lora_A.weight", {rank, in}), b = pairs.read(module + ".lora_B.weight", {out, rank});
      mergeLora(values.back(), a, b, out, in, rank, scale);
    }
    merged.push_back({name, {values.back().data(), DType::F32, e.tensor.shape}});
  }
  pairs.finish();
  return writeSafeTensors(merged, {});
}

}  // namespace longlive

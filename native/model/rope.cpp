#include "rope.h"

#include <cmath>

namespace longlive {

std::vector<float> ropeAxis(int64_t positions, int64_t pairs, double theta) {
  std::vector<float> table;
  table.reserve(static_cast<size_t>(positions * pairs * 2));
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < pairs; ++i) {
      const double angle = static_cast<double>(p) / std::pow(theta, static_cast<double>(i) / static_cast<double>(pairs));
      table.push_back(static_cast<float>(std::cos(angle)));
      table.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return table;
}

RopeTables makeRopeTables(Parameters& parameters, int64_t headDim, double theta, int64_t positions, int64_t gridHeight,
                          int64_t gridWidth) {
  const RopeSplit split = ropeSplit(headDim);
  const auto axis = [&](int64_t n, int64_t pairs) {
    return parameters.add(ropeAxis(n, pairs, theta), {n, pairs, 2}, DType::F32);
  };
  return {axis(positions, split.temporal), axis(gridHeight, split.row), axis(gridWidth, split.column), gridHeight, gridWidth};
}

}  // namespace longlive

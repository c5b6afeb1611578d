// Rotary position embedding over (time, row, column): spec section 2.6.
//
// A head of d elements is d / 2 complex pairs. With k = d / 6 (rounded down), rows and columns get k pairs each, time the
// rest; pair i of an axis with m pairs turns by position * theta^(-i / m). Angles are made in float64, cos and sin stored
// in float32.
#pragma once

#include "arena.h"
#include "config.h"

namespace longlive {

struct RopeSplit { int64_t temporal, row, column; };

constexpr RopeSplit ropeSplit(int64_t headDim) {
  const int64_t space = headDim / 6;
  return {headDim / 2 - 2 * space, space, space};
}

// cos/sin pairs [positions, pairs, 2] of one axis.
std::vector<float> ropeAxis(int64_t positions, int64_t pairs, double theta);

RopeTables makeRopeTables(Parameters& parameters, int64_t headDim, double theta, int64_t positions, int64_t gridHeight,
                          int64_t gridWidth);

}  // namespace longlive

// What stays the same as long as a CUDA backend lives. Plain C++: also what plans of memory are made from.
#pragma once

#include "features.h"
#include "ops.h"

namespace longlive::cuda {

inline BackendTraits traitsOf(Precision precision, const Features& features) {
  BackendTraits t;
  t.precision = precision;
  t.activation = t.keyValue = t.conv = precision == Precision::FP32 ? DType::F32 : DType::BF16;
  t.concurrent = features.lanes, t.sharesLanes = true;
  t.runsAhead = features.lanes && features.ahead;
  t.replays = features.graphs;
  return t;
}

}  // namespace longlive::cuda

// What of a linear layer a library's product takes into its epilogue. Plain C++: also what plans of memory are made from.
#pragma once

#include "ops.h"

namespace longlive::cuda {

struct LibraryProduct {
  bool gelu = false, add = false;  // inside
  bool finished = false;           // nothing is left for a pass of its own
  bool apart = false;              // the product needs a place of its own: that pass reads something where the result goes
};

inline LibraryProduct planLibraryProduct(const Tensor& out, const Tensor& in, const Epilogue& e) {
  const bool bare = !e.multiply && !e.gate;
  const auto overlaps = [&](const Tensor& t) { return t && t.data == out.data; };
  LibraryProduct p;
  p.gelu = e.activation == Activation::GeluTanh && bare && !e.residual;
  p.add = e.activation == Activation::None && bare && e.residual && e.residual.dtype == out.dtype;
  p.finished = p.gelu || p.add || (e.activation == Activation::None && bare && !e.residual);
  p.apart = !p.finished && (overlaps(e.residual) || overlaps(e.multiply) || overlaps(in));
  return p;
}

}  // namespace longlive::cuda

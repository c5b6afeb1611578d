// What a convolution with ConvArgs::upsample2x makes of its kernel: an output sees 2 inputs along an axis, by its parity.
#pragma once

#include <utility>

namespace longlive {

// The taps [first, last) whose sum meets input d (0 or 1) of an output of parity `odd`. A kernel of 3 comes after nearest upsampling: taps
// that fall on one input are added up. A kernel of 4 is that of a transposed convolution of stride 2 and padding 1: each has a tap of its own.
inline std::pair<int, int> upsampledTaps(int kernel, int odd, int d) {
  if (kernel == 4) return {3 - odd - 2 * d, 4 - odd - 2 * d};
  if (odd) return d == 0 ? std::pair{0, 2} : std::pair{2, 3};
  return d == 0 ? std::pair{0, 1} : std::pair{1, 3};
}

}  // namespace longlive

// What of the CUDA backend is switched on or off by hand: BackendOptions::isa, names with commas between them.
//
//   portable   nothing that is special to a chip or a library: kernels for sm_80 and later
//   plain      also attention in F32 arithmetic
//   eager      no graphs: every operation is launched by itself
//   one-lane   decoding and text on the stream of everything else
//   in-turn    no step of the next block before this block's frames are there
//
// What is left out is what the rest is compared with when a result looks wrong.
#pragma once

#include <string>
#include <string_view>

#include "longlive/error.h"

namespace longlive::cuda {

struct Features {
  bool portable = false, plain = false, graphs = true, lanes = true, ahead = true;

  static Features parse(std::string_view text) {
    Features f;
    while (!text.empty()) {
      const size_t comma = text.find(',');
      const std::string_view name = text.substr(0, comma);
      text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
      if (name == "portable") f.portable = true;
      else if (name == "plain") f.portable = f.plain = true;
      else if (name == "eager") f.graphs = false;
      else if (name == "one-lane") f.lanes = false;
      else if (name == "in-turn") f.ahead = false;
      else throw Error(ErrorCode::InvalidArgument, "isa \"" + std::string(name) + "\" is unknown to CUDA; use portable, plain, eager, one-lane or in-turn, separated by commas");
    }
    return f;
  }
};

}  // namespace longlive::cuda

// What callers inside the core promise each other: breaking it is a mistake of ours, never of a user's.
#pragma once

#include <stdexcept>

namespace longlive {

inline void require(bool condition, const char* what) {
  if (!condition) throw std::logic_error(what);
}

}  // namespace longlive

// What libFuzzer's targets share: an input ends in a typed error of the expected kind, or well; anything else stops the fuzzer.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <initializer_list>

#include "longlive/error.h"

namespace longlive::fuzz {

inline void require(bool condition) {
  if (!condition) std::abort();
}

template <class T> void use(const T& value) { asm volatile("" : : "r"(&value) : "memory"); }

template <class F> void refusedOr(std::initializer_list<ErrorCode> refusals, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    for (const ErrorCode code : refusals) {
      if (e.code() == code && *e.what()) return;
    }
    std::fprintf(stderr, "%s: %s\n", nameOf(e.code()), e.what());
    std::abort();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    std::abort();
  }
}

}  // namespace longlive::fuzz

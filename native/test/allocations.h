// Every allocation of the test program through operator new: counted, and made to fail when a test asks for it.
#pragma once

#include <atomic>
#include <cstdint>

namespace longlive::test {

// Since the program began, but for aligned ones: which thread of a pool meets its largest scratch when is left to chance.
inline std::atomic<int64_t> allocations{0};
// Allocations that still succeed; the one after them fails, on whatever thread it is, and those behind it succeed again.
// Below 0: none fails.
inline std::atomic<int64_t> allocationsUntilFailure{-1};

// Lets the n-th allocation from here fail (from 0) while it lives; `met`: whether it came to that.
class FailingAllocation {
 public:
  explicit FailingAllocation(int64_t n) { allocationsUntilFailure = n; }
  ~FailingAllocation() { allocationsUntilFailure = -1; }
  FailingAllocation(const FailingAllocation&) = delete;
  bool met() const { return allocationsUntilFailure < 0; }
};

}  // namespace longlive::test

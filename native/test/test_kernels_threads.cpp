// The thread pool, and what instructions a processor has.
#include "kernel_oracles.h"

using namespace longlive;
using namespace longlive::cpu;

namespace {

void testThreadPool() {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (int64_t n = 0; n < 3000; ++n) {
      std::atomic<int64_t> sum{0}, calls{0};
      std::atomic<bool> inRange{true};
      pool.parallelFor(0, n % 41, 1 + n % 3, [&](int64_t begin, int64_t end, int thread) {
        if (thread < 0 || thread >= threads) inRange = false;
        pool.parallelFor(begin, end, 1, [&](int64_t b, int64_t e, int inner) {  // nested: inline, on the same thread
          if (inner != thread) inRange = false;
          for (int64_t i = b; i < e; ++i) sum += i;
        });
        ++calls;
      });
      const int64_t m = n % 41;
      CHECK(sum == m * (m - 1) / 2 && inRange);
      CHECK(calls <= m);
    }
    pool.reserveScratch(1000);
    void* before = pool.scratch(0);
    pool.parallelFor(0, 1, 1, [&](int64_t, int64_t, int) { CHECK(pool.scratch(0) == before); }, 500);
    CHECK(pool.scratchBytes() == static_cast<size_t>(threads) * 1024 && reinterpret_cast<uintptr_t>(before) % 64 == 0);
  }
}

void testDetection() {
  CHECK(chooseIsa("") == fastestIsa());
  CHECK(fastestIsa() <= detectIsa());
  CHECK(chooseIsa(nameOf(detectIsa())) == detectIsa());
  CHECK(chooseIsa("portable") == Isa::Portable);
  CHECK_THROWS(chooseIsa("sse9"), Error);
  if (detectIsa() < Isa::Amx) CHECK_THROWS(chooseIsa("amx"), Error);
  std::printf("  %s: %s, calculates by %s\n", processorName().c_str(), nameOf(detectIsa()), nameOf(fastestIsa()));
}

}  // namespace

TEST("cpu: detection and caps") { testDetection(); }
TEST("cpu: thread pool") { testThreadPool(); }

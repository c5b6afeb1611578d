#include <chrono>
#include <cstdio>
#include <cstring>

#include "harness.h"

// test [PART OF A NAME | --share=I/N]: all, those with this in their name, or each N-th from the I-th, counted from 0.
int main(int argc, char** argv) {
  using namespace longlive::test;
  // Registered in reverse; run in the order of the files.
  Case* ordered = nullptr;
  for (Case* c = cases; c;) {
    Case* next = c->next;
    c->next = ordered;
    ordered = c;
    c = next;
  }
  int share = 0, shares = 1;
  const bool whole = argc < 2 || std::sscanf(argv[1], "--share=%d/%d", &share, &shares) == 2;
  int run = 0, at = 0;
  for (Case* c = ordered; c; c = c->next) {
    if (whole ? at++ % shares != share : !std::strstr(c->name, argv[1])) continue;
    std::printf("%s\n", c->name);
    std::fflush(stdout);
    const auto begin = std::chrono::steady_clock::now();
    c->body();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (seconds >= 1) std::printf("  took %.1f s\n", seconds);
    ++run;
  }
  std::printf("%d tests, %d failed checks\n", run, failures);
  return failures ? 1 : 0;
}

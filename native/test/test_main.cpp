#include <cstring>

#include "harness.h"

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
  int run = 0;
  for (Case* c = ordered; c; c = c->next) {
    if (argc > 1 && !std::strstr(c->name, argv[1])) continue;
    std::printf("%s\n", c->name);
    std::fflush(stdout);
    c->body();
    ++run;
  }
  std::printf("%d tests, %d failed checks\n", run, failures);
  return failures ? 1 : 0;
}

// make_package DIR: writes a small model package with random weights, for tests that cannot wait for a real one.
#include <cstdio>

#include "synthetic_package.h"

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: make_package DIR\n"), 2;
  const longlive::test::SyntheticPackage package("make");
  std::filesystem::create_directories(argv[1]);
  using Copy = std::filesystem::copy_options;
  std::filesystem::copy(package.directory, argv[1], Copy::recursive | Copy::overwrite_existing);
  return 0;
}

// How fast a model package comes into memory, against what the disk can give. bench/load.ts runs it; one measurement to a
// process, because memory that was used before is faster than fresh memory.
//
//   bench_load read DIR     reads the package's files into one small buffer: the raw speed of disk and page cache
//   bench_load keep DIR     reads them into fresh memory of their size: the least that any loader can do
//   bench_load load DIR     Model::load
//   --cold                  the files are dropped from the page cache before
//   --threads N --precision fp32|bf16|int8
//
// Prints one line of JSON.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "io/package.h"
#include "longlive/engine.h"

using namespace longlive;

namespace {

constexpr size_t kPiece = 4 << 20;

struct Arguments {
  std::string what, directory;
  bool cold = false;
  int threads = 2;
  Precision precision = Precision::BF16;
};

[[noreturn]] void usage() {
  std::fprintf(stderr, "usage: bench_load read|keep|load DIR [--cold] [--threads N] [--precision fp32|bf16|int8]\n");
  std::exit(2);
}

Arguments parse(int argc, char** argv) {
  if (argc < 3) usage();
  Arguments a{argv[1], argv[2]};
  for (int i = 3; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--cold") a.cold = true;
    else if (i + 1 == argc) usage();
    else if (flag == "--threads") a.threads = std::atoi(argv[++i]);
    else if (flag == "--precision") {
      const std::string p = argv[++i];
      a.precision = p == "fp32" ? Precision::FP32 : p == "int8" ? Precision::INT8 : Precision::BF16;
    } else usage();
  }
  if ((a.what != "read" && a.what != "keep" && a.what != "load") || a.threads < 1) usage();
  return a;
}

int openFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Error(ErrorCode::InvalidPackage, path + ": " + std::strerror(errno));
  return fd;
}

void evict(const std::string& path) {
  const int fd = openFile(path);
  ::fdatasync(fd);  // only clean pages can go
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

// Reads a file whole, in pieces that the threads take in order. With `kept`, everything stays in memory.
void readFile(const std::string& path, size_t bytes, int threads, char* kept) {
  const int fd = openFile(path);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  std::atomic<size_t> next{0};
  const auto work = [&] {
    std::vector<char> buffer(kept ? 0 : kPiece);
    for (size_t at = next.fetch_add(kPiece); at < bytes; at = next.fetch_add(kPiece)) {
      const size_t n = std::min(kPiece, bytes - at);
      if (::pread(fd, kept ? kept + at : buffer.data(), n, static_cast<off_t>(at)) != static_cast<ssize_t>(n)) std::abort();
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work);
  work();
  for (auto& t : others) t.join();
  ::close(fd);
}

void readAll(const Package& package, const Arguments& a) {
  for (const auto& [name, file] : package.files()) {
    const size_t bytes = static_cast<size_t>(file.bytes);
    char* kept = nullptr;
    if (a.what == "keep" && bytes) {
      void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) throw std::bad_alloc();
      ::madvise(memory, bytes, MADV_HUGEPAGE);  // as the core's own buffers
      kept = static_cast<char*>(memory);
    }
    readFile(package.path(name), bytes, a.threads, kept);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments a = parse(argc, argv);
  try {
    const Package package = Package::open(a.directory);
    int64_t bytes = 0;
    for (const auto& [name, file] : package.files()) {
      bytes += file.bytes;
      if (a.cold) evict(package.path(name));
    }
    size_t resident = 0;
    const auto begin = std::chrono::steady_clock::now();
    if (a.what == "load") {
      LoadOptions o;
      o.directory = a.directory, o.precision = a.precision, o.threads = a.threads;
      const auto model = Model::load(o);
      resident = model->weightBytes();
    } else {
      readAll(package, a);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    std::printf("{\"what\":\"%s\",\"cold\":%s,\"threads\":%d,\"bytes\":%lld,\"seconds\":%.4f,\"gigabytesPerSecond\":%.3f,\"peakMemoryBytes\":%lld,\"weightBytes\":%zu}\n",
                a.what.c_str(), a.cold ? "true" : "false", a.threads, static_cast<long long>(bytes), seconds,
                static_cast<double>(bytes) / seconds / 1e9, static_cast<long long>(usage.ru_maxrss) * 1024, resident);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_load: %s\n", e.what());
    return 1;
  }
  return 0;
}

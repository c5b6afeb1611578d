// The pool of threads where work fails, and how many threads a container is given.
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <vector>

#include "allocations.h"
#include "harness.h"
#include "ops/cpu/cpu_quota.h"
#include "ops/cpu/thread_pool.h"

using namespace longlive::cpu;

namespace {

// Chunks of a loop that were run, and what arrived where it was called from.
struct Run {
  std::vector<int> times;
  std::string failure;
};

Run loop(ThreadPool& pool, int64_t n, int64_t grain, const std::function<bool(int64_t)>& fails) {
  Run run;
  std::vector<std::atomic<int>> times(static_cast<size_t>(n));
  try {
    pool.parallelFor(0, n, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) ++times[static_cast<size_t>(i)];
      for (int64_t i = begin; i < end; ++i) {
        if (fails(i)) throw std::runtime_error("chunk " + std::to_string(i));
      }
    });
  } catch (const std::runtime_error& e) {
    run.failure = e.what();
  }
  for (const auto& t : times) run.times.push_back(t);
  return run;
}

// A directory that stands for the root of a machine.
class Root {
 public:
  Root() : path_((std::filesystem::temp_directory_path() / ("longlive-root-" + std::to_string(::getpid()))).string()) {
    std::filesystem::remove_all(path_);
  }
  ~Root() { std::filesystem::remove_all(path_); }
  Root& file(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(path_ + path).parent_path());
    std::ofstream(path_ + path) << text;
    return *this;
  }
  std::optional<int> quota() const { return processorQuota(path_); }

 private:
  std::string path_;
};

constexpr const char* kUnified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

}  // namespace

TEST("pool: work that throws ends the loop with its error, after every other chunk") {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t grain : {1, 3, 100}) {
      for (int64_t bad : {0, 17, 63}) {
        const Run run = loop(pool, 64, grain, [&](int64_t i) { return i == bad; });
        CHECK(run.failure == "chunk " + std::to_string(bad));
        for (int t : run.times) CHECK(t == 1);
      }
    }
    const Run all = loop(pool, 200, 1, [](int64_t) { return true; });
    CHECK(all.failure.rfind("chunk ", 0) == 0);
    // And the pool is as it was, for its caller too: loops from inside are still run at once.
    for (int i = 0; i < 300; ++i) {
      const Run sound = loop(pool, 40, 1 + i % 5, [](int64_t) { return false; });
      CHECK(sound.failure.empty());
      for (int t : sound.times) CHECK(t == 1);
      loop(pool, 40, 1, [&](int64_t c) { return c % 7 == i % 7; });
    }
  }
}

TEST("pool: an error of a loop inside another comes out of both") {
  ThreadPool pool(3);
  for (int i = 0; i < 50; ++i) {
    std::atomic<int> outer{0};
    CHECK_THROWS(pool.parallelFor(0, 30, 1, [&](int64_t begin, int64_t, int) {
      ++outer;
      pool.parallelFor(0, 4, 1, [&](int64_t b, int64_t, int) {
        if (begin == 11 && b == 0) throw std::runtime_error("inside");
      });
    }), std::runtime_error);
    CHECK(outer == 30);
  }
}

TEST("pool: scratch that cannot grow fails the loop and stays what it was") {
  ThreadPool pool(4);
  pool.reserveScratch(1000);
  const auto grow = [&](size_t bytes) {
    pool.parallelFor(0, 64, 1, [&](int64_t, int64_t, int thread) {
      auto* memory = static_cast<volatile char*>(pool.scratch(thread));
      memory[bytes - 1] = 1;
    }, bytes);
  };
  for (int64_t n : {0, 1, 2}) {
    const longlive::test::FailingAllocation shortage(n);
    try {
      grow(size_t{1000} << (n + 1));
    } catch (const std::bad_alloc&) {
    }
  }
  grow(1000);
  grow(1 << 20);
}

TEST("pool: a container's quota bounds the threads, of both versions of cgroups") {
  CHECK(!Root().quota());
  CHECK(!Root().file("/proc/self/cgroup", "0::/\n").quota());
  CHECK(!Root().file("/proc/self/cgroup", "0::/\n").file("/proc/self/mountinfo", kUnified).file("/sys/fs/cgroup/cpu.max", "max 100000\n").quota());
  CHECK(Root().file("/proc/self/cgroup", "0::/\n").file("/proc/self/mountinfo", kUnified).file("/sys/fs/cgroup/cpu.max", "200000 100000\n").quota() == 2);
  CHECK(Root().file("/proc/self/cgroup", "0::/\n").file("/proc/self/mountinfo", kUnified).file("/sys/fs/cgroup/cpu.max", "150000 100000\n").quota() == 2);
  CHECK(Root().file("/proc/self/cgroup", "0::/\n").file("/proc/self/mountinfo", kUnified).file("/sys/fs/cgroup/cpu.max", "1000 100000\n").quota() == 1);
  // The tightest of the groups above.
  CHECK(Root().file("/proc/self/cgroup", "0::/a/b/c\n").file("/proc/self/mountinfo", kUnified).file("/sys/fs/cgroup/a/b/c/cpu.max", "800000 100000\n")
            .file("/sys/fs/cgroup/a/cpu.max", "300000 100000\n").file("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n").quota() == 3);
  // Version 1 in a container without a name space of its own: the mount shows the container's group as its root.
  const char* one = "12:cpu,cpuacct:/docker/1f\n11:cpuset:/docker/1f\n4:memory:/docker/1f\n";
  const char* mount = "40 30 0:33 /docker/1f /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n"
                      "41 30 0:34 /docker/1f /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n";
  CHECK(Root().file("/proc/self/cgroup", one).file("/proc/self/mountinfo", mount).file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n")
            .file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n").quota() == 3);
  CHECK(!Root().file("/proc/self/cgroup", one).file("/proc/self/mountinfo", mount).file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
             .file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n").quota());
  // Nonsense is no quota.
  for (const char* text : {"", "0 100000", "-5 100000", "200000 0", "200000", "x y", "99999999999999999999 1"}) {
    CHECK(!Root().file("/proc/self/cgroup", "0::/\n").file("/proc/self/mountinfo", kUnified).file("/sys/fs/cgroup/cpu.max", text).quota());
  }
  CHECK(!Root().file("/proc/self/cgroup", ":::\n0\n\n::\n").file("/proc/self/mountinfo", "- - -\n-\n").quota());
  CHECK(availableProcessors() >= 1);
  CHECK(ThreadPool().threads() == availableProcessors());
}

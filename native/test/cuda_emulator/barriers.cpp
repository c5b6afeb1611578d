// Barriers in shared memory (mbarrier): a phase ends when all arrivals and all bytes that were announced are there.
#include <unordered_map>
#include <vector>

#include "fibres.h"
#include "hopper.h"

namespace emulator {

namespace {

constexpr int kMost = (1 << 20) - 1;            // arrivals, and bytes of a phase
constexpr uint64_t kMark = 0x6d62617272696572;  // in the word itself: nobody else has written there

struct Barrier {
  int arrivals = 0, pending = 0;
  int64_t bytes = 0;   // announced and not there yet
  uint64_t phase = 0;  // changes when a phase ends
  bool published = false;
};

std::vector<std::unordered_map<size_t, Barrier>> barriers;  // of every block of the cluster, by offset

std::string describe(const void* subject) {
  const Barrier& b = *static_cast<const Barrier*>(subject);
  for (const auto& all : barriers)
    for (const auto& [offset, barrier] : all)
      if (&barrier == &b)
        return "at byte " + std::to_string(offset) + " of shared memory to end its phase " + std::to_string(b.phase) + ": " + std::to_string(b.pending) + " of " +
               std::to_string(b.arrivals) + " arrivals and " + std::to_string(b.bytes) + " bytes are missing";
  return "";
}

Barrier& find(size_t offset, unsigned block) {
  const auto found = barriers[block].find(offset);
  if (found == barriers[block].end()) die("a barrier that nobody has made");
  if (!blockRuns(block)) die("a barrier of a block that has ended");
  uint64_t word;
  std::memcpy(&word, sharedAt(block, offset), 8);
  if (word != kMark) die("a barrier that was overwritten");
  return found->second;
}
Barrier& own(const uint64_t* barrier) { return find(sharedOffset(barrier, 8), currentBlock()); }

void count(Barrier& b, int arrivals, int64_t bytes) {
  b.pending -= arrivals, b.bytes += bytes;
  if (b.pending < 0) die("more arrivals than the barrier has");
  if (b.bytes > kMost || b.bytes < -kMost) die("more bytes than a barrier counts");
  if (b.pending == 0 && b.bytes == 0) b.pending = b.arrivals, ++b.phase;
}

}  // namespace

void forgetBarriers() { barriers.assign(blocksAtOnce(), {}); }

void arriveWithBytes(unsigned block, size_t offset, int64_t bytes) {
  Barrier& b = find(offset, block);
  if (!b.published) die("a copy to a barrier that was not made known to the copy engine");
  count(b, 0, -bytes);
}

void initBarrier(uint64_t* barrier, int arrivals) {
  if (reinterpret_cast<uintptr_t>(barrier) % 8 || arrivals < 1 || arrivals > kMost) die("a barrier that cannot be");
  const auto [at, isNew] = barriers[currentBlock()].try_emplace(sharedOffset(barrier, 8));
  if (!isNew) die("a barrier that is made twice");
  at->second.arrivals = at->second.pending = arrivals;
  std::memcpy(barrier, &kMark, 8);
}

void publishBarriers() {
  for (auto& [offset, b] : barriers[currentBlock()]) b.published = true;
}

void expectBytes(uint64_t* barrier, int bytes) {
  count(own(barrier), 1, bytes);
}

void arrive(uint64_t* barrier, unsigned block) { count(find(sharedOffset(barrier, 8), block), 1, 0); }

void waitFor(uint64_t* barrier, uint32_t parity) {
  Barrier& b = own(barrier);
  while (b.phase % 2 == parity) suspend(b.phase, {"the barrier", &describe, &b});
}

}  // namespace emulator

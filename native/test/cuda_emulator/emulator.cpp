// Fibres, blocks and clusters: who runs next, barriers, warps, shared memory and cp.async.
#include "fibres.h"
#include "hopper.h"

#include <sys/mman.h>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

// Switching fibres saves the callee-saved registers of the System V ABI on the stack and swaps stack pointers.
extern "C" void longlive_switch(void** save, void* load);
asm(R"(
.text
.globl longlive_switch
.type longlive_switch, @function
longlive_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size longlive_switch, .-longlive_switch
)");

namespace emulator {

Position position;

namespace {

bool flag(const char* name, const char* value) {
  const char* v = std::getenv(name);
  return v && std::strcmp(v, value) == 0;
}

}  // namespace

Schedule schedule{flag("LONGLIVE_EMULATOR_ORDER", "reverse"), flag("LONGLIVE_EMULATOR_COPIES", "eager")};

namespace {

constexpr size_t kStack = 256 << 10;
constexpr size_t kMaxThreads = 1024, kMaxBlocks = 8;  // of a block; of a cluster
constexpr size_t kGuard = 64;                         // bytes behind a block's shared memory
constexpr size_t kSystemShared = 1024;                // addresses before it

struct Copy { void* to; const void* from; size_t bytes, readable; };

struct Fibre {
  void* sp = nullptr;
  const uint64_t* watched = nullptr;  // it waits until this
  uint64_t seen = 0;                  // is no longer that
  bool done = false;
  Reason reason{};
  bool ready() const { return !done && !(watched && *watched == seen); }
};

struct CopyGroups { std::vector<std::vector<Copy>> closed; std::vector<Copy> open; };

struct Warp {
  void* operands[32] = {};
  int arrived = 0, alive = 0;
  uint64_t generation = 0;
};

// Where all threads of a block, or of a cluster, wait for each other; those that have ended are not waited for.
struct Meeting {
  unsigned alive = 0, waiting = 0;
  uint64_t generation = 0;

  void release() {
    if (alive > 0 && waiting == alive) waiting = 0, ++generation;
  }
  void leave() { --alive, release(); }
  void wait(const char* what) {
    const uint64_t before = generation;
    ++waiting, release();
    if (generation == before) suspend(generation, {what});
  }
};

struct Block {
  dim3 index;
  Meeting meeting;
};

struct Late { unsigned fibre; std::function<void()> work; };

// Of the blocks that run at the same time. Fibres and warps are those of the first block, then of the next.
struct Cluster {
  std::vector<Fibre> fibres;
  std::vector<CopyGroups> copies;
  std::vector<Warp> warps;
  std::vector<Block> blocks;
  Meeting meeting;
  std::vector<Late> late;
  unsigned threads = 0;  // of a block
  unsigned current = 0;
  void* scheduler = nullptr;
  const std::function<void()>* body = nullptr;
};

Cluster cluster;
std::vector<unsigned char> sharedMemory;
char* stacks = nullptr;
unsigned char* sharedBase = nullptr;
size_t sharedBytes = 0, sharedStride = 0;  // of a block; from one to the next

std::string nameOf(unsigned fibre) {
  const dim3 b = cluster.blocks[fibre / cluster.threads].index;
  return "block (" + std::to_string(b.x) + ", " + std::to_string(b.y) + ", " + std::to_string(b.z) + "), thread " +
         std::to_string(fibre % cluster.threads);
}

Block& blockAtHand() { return cluster.blocks[currentBlock()]; }
Warp& warpAtHand() { return cluster.warps[currentBlock() * ((cluster.threads + 31) / 32) + currentThread() / 32]; }

void enter(unsigned next) {
  cluster.current = next;
  position.thread.x = currentThread();
  position.block = blockAtHand().index;
}

unsigned following(unsigned thread) {
  return schedule.reverse ? (thread == 0 ? cluster.threads - 1 : thread - 1) : (thread + 1 == cluster.threads ? 0 : thread + 1);
}

// Threads that wait for the same are one line.
[[noreturn]] void reportDeadlock() {
  std::map<std::string, std::pair<unsigned, unsigned>> waiting;  // by reason: the first, and how many more
  for (unsigned i = 0; i < cluster.fibres.size(); ++i) {
    const Fibre& f = cluster.fibres[i];
    if (f.done) continue;
    const std::string block = "in block " + std::to_string(i / cluster.threads) + " of the cluster";
    const std::string what = std::string(f.reason.what) + (f.reason.describe ? " " + f.reason.describe(f.reason.subject) : "") + " (" + block + ")";
    const auto [at, isNew] = waiting.try_emplace(what, i, 0u);
    if (!isNew) ++at->second.second;
  }
  std::fprintf(stderr, "emulator: a deadlock\n");
  for (const auto& [what, who] : waiting)
    std::fprintf(stderr, "  %s and %u others wait for %s\n", nameOf(who.first).c_str(), who.second, what.c_str());
  std::abort();
}

// Who runs next. A block runs as far as it can before another has a turn, and what was put off happens when nobody has one.
unsigned nextReady() {
  for (;;) {
    for (unsigned i = 0; i < blocksAtOnce(); ++i) {
      const unsigned first = (currentBlock() + i) % blocksAtOnce() * cluster.threads;
      unsigned thread = currentThread();
      do {
        thread = following(thread);
        if (cluster.fibres[first + thread].ready()) return first + thread;
      } while (thread != currentThread());
    }
    if (cluster.late.empty()) reportDeadlock();
    const auto at = schedule.reverse ? cluster.late.end() - 1 : cluster.late.begin();
    const Late late = std::move(*at);
    cluster.late.erase(at);
    enter(late.fibre);
    late.work();
  }
}

void finish() {
  leaveProducts();
  Fibre& self = cluster.fibres[cluster.current];
  self.done = true;
  --warpAtHand().alive;
  blockAtHand().meeting.leave();
  cluster.meeting.leave();
  if (cluster.meeting.alive == 0) {
    longlive_switch(&self.sp, cluster.scheduler);
  } else {
    enter(nextReady());
    longlive_switch(&self.sp, cluster.fibres[cluster.current].sp);
  }
  die("a finished thread ran on");
}

void trampoline() {
  (*cluster.body)();
  finish();
}

void runCluster() {
  const unsigned fibres = cluster.threads * blocksAtOnce(), warps = (cluster.threads + 31) / 32;
  if (!stacks) {
    stacks = static_cast<char*>(mmap(nullptr, kStack * kMaxThreads * kMaxBlocks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stacks == MAP_FAILED) die("no memory for stacks");
  }
  cluster.fibres.assign(fibres, {});
  cluster.copies.assign(fibres, {});
  cluster.warps.assign(warps * blocksAtOnce(), {});
  cluster.meeting.alive = fibres;
  for (Block& b : cluster.blocks) b.meeting.alive = cluster.threads;
  for (unsigned i = 0; i < fibres; ++i) {
    ++cluster.warps[i / cluster.threads * warps + i % cluster.threads / 32].alive;
    void** top = reinterpret_cast<void**>(stacks + (i + 1) * kStack - 64);
    *--top = nullptr;  // keeps the stack as a call would leave it: 16-byte aligned before the return address
    *--top = reinterpret_cast<void*>(&trampoline);
    for (int r = 0; r < 6; ++r) *--top = nullptr;
    cluster.fibres[i].sp = top;
  }
  forgetBarriers(), forgetProducts();
  enter(schedule.reverse ? fibres - 1 : 0);
  longlive_switch(&cluster.scheduler, cluster.fibres[cluster.current].sp);
  if (!cluster.late.empty()) die("a copy is under way when the last thread ends");
}

}  // namespace

void die(const std::string& what) {
  std::fprintf(stderr, "emulator: %s in %s\n", what.c_str(), cluster.blocks.empty() ? "no block" : nameOf(cluster.current).c_str());
  std::abort();
}

unsigned currentThread() { return cluster.current % cluster.threads; }
unsigned currentBlock() { return cluster.current / cluster.threads; }
unsigned blocksAtOnce() { return static_cast<unsigned>(cluster.blocks.size()); }
bool blockRuns(unsigned block) { return cluster.blocks[block].meeting.alive > 0; }

void suspend(const uint64_t& counter, const Reason& reason) {
  const unsigned self = cluster.current;
  Fibre& f = cluster.fibres[self];
  f.watched = &counter, f.seen = counter, f.reason = reason;
  const unsigned next = nextReady();
  enter(next);
  if (next != self) longlive_switch(&f.sp, cluster.fibres[next].sp);
  f.watched = nullptr;
}

void whenStuck(std::function<void()> work) { cluster.late.push_back({cluster.current, std::move(work)}); }

size_t sharedOffset(const void* p, size_t bytes) {
  const unsigned char* base = dynamicShared();
  const size_t offset = static_cast<size_t>(static_cast<const unsigned char*>(p) - base);
  if (p < base || offset + bytes > sharedBytes) die("an address outside the block's shared memory");
  return offset;
}
unsigned char* sharedAt(unsigned block, size_t offset) { return sharedBase + block * sharedStride + offset; }

uint32_t sharedAddress(const void* p) { return static_cast<uint32_t>(kSystemShared + sharedOffset(p, 0)); }
const unsigned char* atSharedAddress(uint32_t address, size_t bytes) {
  if (address < kSystemShared || address - kSystemShared + bytes > sharedBytes) die("an address outside the block's shared memory");
  return sharedAt(currentBlock(), address - kSystemShared);
}

void run(dim3 grid, unsigned clusterSize, unsigned threads, size_t shared, const std::function<void()>& body) {
  if (threads == 0 || threads > kMaxThreads || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
    die("a launch outside the limits");
  if (clusterSize == 0 || clusterSize > kMaxBlocks || grid.x % clusterSize) die("a grid that is not made of whole clusters");
  if (shared > static_cast<size_t>(sharedLimit())) die("too much shared memory");
  sharedBytes = shared, sharedStride = (shared + kGuard + 1023) / 1024 * 1024;
  if (sharedMemory.size() < clusterSize * sharedStride + 1024) sharedMemory.resize(clusterSize * sharedStride + 1024);
  sharedBase = reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(sharedMemory.data()) + 1023) / 1024 * 1024);
  cluster.threads = threads, cluster.body = &body;
  cluster.blocks.assign(clusterSize, {});
  position.grid = grid, position.blockSize = dim3(threads);
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; x += clusterSize) {
        for (unsigned i = 0; i < clusterSize; ++i) cluster.blocks[i].index = dim3(x + i, y, z);
        position.thread = dim3(0, 0, 0);
        std::memset(sharedBase, 0xff, clusterSize * sharedStride);
        runCluster();
        for (unsigned b = 0; b < clusterSize; ++b)
          for (size_t i = 0; i < kGuard; ++i)
            if (sharedAt(b, shared)[i] != 0xff) die("a write behind shared memory");
      }
}

void barrier() { blockAtHand().meeting.wait("__syncthreads"); }
unsigned clusterRank() { return currentBlock(); }
void clusterBarrier() { cluster.meeting.wait("the barrier of the cluster"); }

void warp(void* operand, void (*compute)(void**)) {
  Warp& w = warpAtHand();
  w.operands[currentThread() % 32] = operand;
  if (++w.arrived != w.alive) return suspend(w.generation, {"the rest of its warp"});
  compute(w.operands);
  std::memset(w.operands, 0, sizeof w.operands);
  w.arrived = 0;
  ++w.generation;
}

unsigned char* dynamicShared() { return sharedAt(currentBlock(), 0); }

namespace {
void perform(const Copy& c) {
  std::memset(c.to, 0, c.bytes);
  std::memcpy(c.to, c.from, c.readable);
}
}  // namespace

void asyncCopy(void* to, const void* from, size_t bytes, size_t readable) {
  if (reinterpret_cast<uintptr_t>(to) % bytes || (readable && reinterpret_cast<uintptr_t>(from) % bytes)) die("a misaligned cp.async");
  const Copy c{to, from, bytes, readable};
  if (schedule.eagerCopies) perform(c);
  else cluster.copies[cluster.current].open.push_back(c);
}

void asyncCommit() {
  CopyGroups& groups = cluster.copies[cluster.current];
  groups.closed.push_back(std::move(groups.open));
  groups.open.clear();
}

void asyncWait(int pending) {
  auto& groups = cluster.copies[cluster.current].closed;
  while (static_cast<int>(groups.size()) > pending) {
    for (const Copy& c : groups.front()) perform(c);
    groups.erase(groups.begin());
  }
}

}  // namespace emulator

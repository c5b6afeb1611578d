#include <cuda_runtime.h>

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <map>
#include <set>
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

constexpr size_t kStack = 256 << 10;
constexpr size_t kMaxThreads = 1024;

struct Copy { void* to; const void* from; size_t bytes, readable; };

struct Fibre {
  void* sp = nullptr;
  bool done = false;
  std::vector<std::vector<Copy>> groups;
  std::vector<Copy> open;
};

struct Warp {
  void* operands[32] = {};
  int arrived = 0, alive = 0;
  uint64_t generation = 0;
};

struct Block {
  std::vector<Fibre> fibres;
  std::vector<Warp> warps;
  unsigned threads = 0, alive = 0, current = 0, waiting = 0;
  uint64_t generation = 0, progress = 0;
  void* scheduler = nullptr;
  const std::function<void()>* body = nullptr;
};

Block block;
std::vector<unsigned char> sharedMemory;
char* stacks = nullptr;
unsigned char* sharedBase = nullptr;

bool flag(const char* name, const char* value) {
  const char* v = std::getenv(name);
  return v && std::strcmp(v, value) == 0;
}
const bool reverseOrder = flag("LONGLIVE_EMULATOR_ORDER", "reverse");
const bool eagerCopies = flag("LONGLIVE_EMULATOR_COPIES", "eager");

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "emulator: %s in block (%u, %u, %u), thread %u\n", what, position.block.x, position.block.y,
               position.block.z, block.current);
  std::abort();
}

void enter(unsigned next) {
  block.current = next;
  position.thread.x = next;
}

unsigned following(unsigned i) {
  return reverseOrder ? (i == 0 ? block.threads - 1 : i - 1) : (i + 1 == block.threads ? 0 : i + 1);
}

// Gives the others a turn.
void yield() {
  const unsigned self = block.current;
  unsigned next = following(self);
  while (block.fibres[next].done) next = following(next);
  if (next == self) return;
  enter(next);
  longlive_switch(&block.fibres[self].sp, block.fibres[next].sp);
}

template <class Condition>
void waitFor(Condition met, const char* what) {
  uint64_t seen = block.progress;
  unsigned idle = 0;
  while (!met()) {
    yield();
    if (block.progress != seen) seen = block.progress, idle = 0;
    else if (++idle > 4) die(what);
  }
}

void releaseBarrier() {
  if (block.alive > 0 && block.waiting == block.alive) {
    block.waiting = 0;
    ++block.generation;
    ++block.progress;
  }
}

void finish() {
  Fibre& self = block.fibres[block.current];
  self.done = true;
  --block.alive;
  --block.warps[block.current / 32].alive;
  ++block.progress;
  releaseBarrier();
  if (block.alive == 0) {
    longlive_switch(&self.sp, block.scheduler);
  } else {
    unsigned next = following(block.current);
    while (block.fibres[next].done) next = following(next);
    enter(next);
    longlive_switch(&self.sp, block.fibres[next].sp);
  }
  die("a finished thread ran on");
}

void trampoline() {
  (*block.body)();
  finish();
}

void runBlock() {
  if (!stacks) {
    stacks = static_cast<char*>(mmap(nullptr, kStack * kMaxThreads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stacks == MAP_FAILED) die("no memory for stacks");
  }
  block.fibres.assign(block.threads, {});
  block.warps.assign((block.threads + 31) / 32, {});
  block.alive = block.threads, block.waiting = 0;
  for (unsigned i = 0; i < block.threads; ++i) {
    ++block.warps[i / 32].alive;
    void** top = reinterpret_cast<void**>(stacks + (i + 1) * kStack - 64);
    *--top = nullptr;  // keeps the stack as a call would leave it: 16-byte aligned before the return address
    *--top = reinterpret_cast<void*>(&trampoline);
    for (int r = 0; r < 6; ++r) *--top = nullptr;
    block.fibres[i].sp = top;
  }
  enter(reverseOrder ? block.threads - 1 : 0);
  longlive_switch(&block.scheduler, block.fibres[block.current].sp);
}

}  // namespace

void run(dim3 grid, unsigned threads, size_t sharedBytes, const std::function<void()>& body) {
  if (threads == 0 || threads > kMaxThreads || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
    die("a launch outside the limits");
  if (sharedBytes > static_cast<size_t>(sharedLimit())) die("too much shared memory");
  if (sharedMemory.size() < sharedBytes + 2048) sharedMemory.resize(sharedBytes + 2048);
  sharedBase = reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(sharedMemory.data()) + 1023) / 1024 * 1024);
  block.threads = threads, block.body = &body;
  position.grid = grid, position.blockSize = dim3(threads);
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        position.block = dim3(x, y, z);
        position.thread = dim3(0, 0, 0);
        std::memset(sharedBase, 0xff, sharedBytes + 64);
        runBlock();
        for (size_t i = 0; i < 64; ++i)
          if (sharedBase[sharedBytes + i] != 0xff) die("a write behind shared memory");
      }
}

void barrier() {
  const uint64_t generation = block.generation;
  ++block.waiting;
  releaseBarrier();
  waitFor([&] { return block.generation != generation; }, "__syncthreads waits for ever");
}

void warp(void* operand, void (*compute)(void**)) {
  Warp& w = block.warps[block.current / 32];
  const uint64_t generation = w.generation;
  w.operands[block.current % 32] = operand;
  if (++w.arrived == w.alive) {
    compute(w.operands);
    std::memset(w.operands, 0, sizeof w.operands);
    w.arrived = 0;
    ++w.generation;
    ++block.progress;
    return;
  }
  waitFor([&] { return w.generation != generation; }, "a warp operation waits for ever");
}

unsigned char* dynamicShared() { return sharedBase; }

namespace {
void perform(const Copy& c) {
  std::memset(c.to, 0, c.bytes);
  std::memcpy(c.to, c.from, c.readable);
}
}  // namespace

void asyncCopy(void* to, const void* from, size_t bytes, size_t readable) {
  if (reinterpret_cast<uintptr_t>(to) % bytes || (readable && reinterpret_cast<uintptr_t>(from) % bytes)) die("a misaligned cp.async");
  const Copy c{to, from, bytes, readable};
  if (eagerCopies) perform(c);
  else block.fibres[block.current].open.push_back(c);
}

void asyncCommit() {
  Fibre& f = block.fibres[block.current];
  f.groups.push_back(std::move(f.open));
  f.open.clear();
}

void asyncWait(int pending) {
  auto& groups = block.fibres[block.current].groups;
  while (static_cast<int>(groups.size()) > pending) {
    for (const Copy& c : groups.front()) perform(c);
    groups.erase(groups.begin());
  }
}

}  // namespace emulator


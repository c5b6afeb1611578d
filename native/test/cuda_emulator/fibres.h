// What the parts of the emulator know of each other: the fibres of the blocks that run at the same time, one block or those of a cluster.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <string>

namespace emulator {

[[noreturn]] void die(const std::string& what);

unsigned currentThread();  // in its block
unsigned currentBlock();   // in its cluster
unsigned blocksAtOnce();
bool blockRuns(unsigned block);  // of the cluster, not ended yet

// What a fibre waits for, for the report of a deadlock; `subject` is passed back to `describe`.
struct Reason {
  const char* what;
  std::string (*describe)(const void*) = nullptr;
  const void* subject = nullptr;
};
// Lets the others run until the counter is another.
void suspend(const uint64_t& counter, const Reason& reason);

// Work that happens when every fibre waits, one piece at a time: the latest legal time of what is asynchronous. It runs as if by the thread
// that asks for it.
void whenStuck(std::function<void()> work);

// Where p lies in the shared memory of the current block, and that place in a block of the cluster.
size_t sharedOffset(const void* p, size_t bytes);
unsigned char* sharedAt(unsigned block, size_t offset);
const unsigned char* atSharedAddress(uint32_t address, size_t bytes);  // as instructions see it, in the current block

// Swizzling exchanges the 16-byte pieces of a row of `span` bytes by the row's number, both taken from the address. span 0: nothing.
inline size_t swizzled(size_t address, size_t span) { return span == 0 ? address : address ^ (address >> 3 & (span - 16)); }

// barriers.cpp
void forgetBarriers();  // before a cluster begins
void arriveWithBytes(unsigned block, size_t offset, int64_t bytes);

// products.cpp
void forgetProducts();
void leaveProducts();  // by a thread whose kernel ends

}  // namespace emulator

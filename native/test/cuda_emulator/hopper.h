// What kernels for Hopper ask of the emulator (ops/cuda/sm90.cuh has a twin for each of its instructions): barriers in shared memory,
// copies of boxes, clusters, and the products of warpgroups.
//
// Copies and products are asynchronous, and a kernel must be right whenever they happen. A schedule takes them as far apart as the rules allow:
//   * copies late (nobody can go on without them), products at once: what multiplies before its copy was waited for multiplies NaN
//   * copies at once, products late (somebody waits for them, and nobody can go on): a stage that is handed back too early is overwritten
//     before it is multiplied; sums and words of A are those of that time
// What is late comes in the order in which it was asked for. Of a cluster the first block runs as far as it can before the other does. In reverse
// order both are the other way round. Each of the four schedules shows mistakes that the others do not.
//
// Errors that a device answers with a hang, a fault or silence are reported: waits without an end, arrivals that nobody expects, barriers used
// before they are made or after their block has ended, misaligned boxes, warps of a group that multiply different things, products without
// a fence before or a wait behind them.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

namespace emulator {

// Addresses as instructions see them, within the block's shared memory.
uint32_t sharedAddress(const void* p);

unsigned clusterRank();
void clusterBarrier();

void initBarrier(uint64_t* barrier, int arrivals);
void publishBarriers();
void expectBytes(uint64_t* barrier, int bytes);  // and arrives
void arrive(uint64_t* barrier, unsigned block);
void waitFor(uint64_t* barrier, uint32_t parity);

// Into this block, or into the same place of every block of the cluster.
void copyBox(void* to, const CUtensorMap* map, const int (&at)[2], uint64_t* full, bool everywhere);
void copyBox(void* to, const CUtensorMap* map, const int (&at)[4], uint64_t* full, bool everywhere);
int64_t boxesCopied();  // for tests

// d (+)= a b^T of a warpgroup: 64 x `columns`, and 32 bytes deep.
enum class Element : uint8_t { Bf16, Int8, E4m3 };
struct Product {
  Element element;
  int columns;
  void* sums;             // of this thread: [columns / 8][4] of float, or int32_t for int8
  const uint32_t* words;  // of this thread: a in registers; or null
  uint64_t a, b;          // descriptions of shared memory
  bool alongRows;         // b's rows are deep: "MN-major"
  bool accumulate;
};
void fenceProducts();
void multiply(const Product& product);
void commitProducts();
void waitProducts(int pending);

}  // namespace emulator

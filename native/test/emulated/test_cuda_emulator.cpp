// The emulator's own Hopper (test/cuda_emulator/hopper.h), without the kernels of ops/cuda: products against their definition, and what it must not
// let pass.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "../harness.h"
#include "ops/cuda/sm90.cuh"
#include "ops/cuda/weights.h"

using namespace longlive::cuda;

namespace {

struct Matrix {
  int rows, columns;
  std::vector<uint16_t> bits;  // bf16
  float at(int row, int column) const { return toFloat(bf16{bits[static_cast<size_t>(row * columns + column)]}); }
};

Matrix randomMatrix(int rows, int columns, unsigned seed) {
  std::mt19937 random(seed);
  Matrix m{rows, columns, {}};
  for (int i = 0; i < rows * columns; ++i) m.bits.push_back(longlive::cuda::roundToBf16(std::uniform_real_distribution<float>(-1, 1)(random)));
  return m;
}

// The multiprocessor with one warpgroup: `body` gets memory at a multiple of 1024, and a barrier that is ready.
void onWarpgroup(int sharedBytes, const std::function<void(unsigned char*, uint64_t*)>& body) {
  emulator::run(dim3(1), 1, 128, static_cast<size_t>(sharedBytes) + 8, [&] {
    unsigned char* memory = dynamicShared();
    uint64_t* full = reinterpret_cast<uint64_t*>(memory + sharedBytes);
    if (threadIdx.x == 0) initBarrier(full, 1), publishBarriers();
    __syncthreads();
    body(memory, full);
  });
}

CUtensorMap mapOf(const Matrix& m, int boxRows, int boxColumns, CUtensorMapSwizzle swizzle) {
  CUtensorMap map;
  CHECK(encodeTensorMap<2>(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, m.bits.data(), {m.columns, m.rows}, {boxColumns, boxRows}, swizzle));
  return map;
}

// a b^T of 64 x Depth and N x Depth, both copied in one box.
template <int N, int Depth> double errorOfProduct() {
  const Matrix a = randomMatrix(64, Depth, 1), b = randomMatrix(N, Depth, 2);
  const CUtensorMapSwizzle swizzle = Depth == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B;
  const CUtensorMap aMap = mapOf(a, 64, Depth, swizzle), bMap = mapOf(b, N, Depth, swizzle);
  std::vector<float> result(64 * N);
  onWarpgroup((64 + N) * Depth * 2, [&](unsigned char* memory, uint64_t* full) {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) {
      expectBytes(full, (64 + N) * Depth * 2);
      copyBox(memory, &aMap, 0, 0, full), copyBox(memory + 64 * Depth * 2, &bMap, 0, 0, full);
    }
    waitFor(full, 0);
    float d[N / 8][4];
    fence();
    for (int step = 0; step < Depth / 16; ++step)
      multiply<N>(d, describe<Depth * 2>(sharedAddress(memory) + step * 32, 8 * Depth * 2),
                  describe<Depth * 2>(sharedAddress(memory) + 64 * Depth * 2 + step * 32, 8 * Depth * 2), step > 0);
    commit();
    waitProducts<0>();
    for (int n = 0; n < N / 8; ++n)
      for (int i = 0; i < 4; ++i) result[static_cast<size_t>((thread / 32 * 16 + thread % 32 / 4 + i / 2 * 8) * N + n * 8 + thread % 4 * 2 + i % 2)] = d[n][i];
  });
  double worst = 0;
  for (int row = 0; row < 64; ++row)
    for (int column = 0; column < N; ++column) {
      double want = 0;
      for (int k = 0; k < Depth; ++k) want += static_cast<double>(a.at(row, k)) * b.at(column, k);
      worst = std::max(worst, std::fabs(result[static_cast<size_t>(row * N + column)] - want));
    }
  return worst;
}

// What a process says before it aborts; nothing, if it does not.
std::string lastWords(const std::function<void()>& f) {
  int ends[2];
  if (pipe(ends) != 0) return "";
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 2);
    f();
    _exit(0);
  }
  close(ends[1]);
  std::string said;
  char buffer[512];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? said : "";
}

bool refuses(const char* what, const std::function<void()>& f) {
  const std::string said = lastWords(f);
  if (said.find(what) == std::string::npos) std::fprintf(stderr, "not \"%s\" but \"%s\"\n", what, said.c_str());
  return said.find(what) != std::string::npos;
}

}  // namespace

TEST("emulator: products of a warpgroup") {
  CHECK((errorOfProduct<8, 64>() < 1e-5));
  CHECK((errorOfProduct<176, 64>() < 1e-5));
  CHECK((errorOfProduct<256, 64>() < 1e-5));
  CHECK((errorOfProduct<96, 32>() < 1e-5));
}

TEST("emulator: tensors that the copy engine cannot read are refused") {
  alignas(16) uint16_t data[64 * 64] = {};
  CUtensorMap map;
  const auto encodes = [&](const void* at, int64_t columns, int boxColumns, int boxRows, CUtensorMapSwizzle swizzle) {
    return encodeTensorMap<2>(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, at, {columns, 16}, {boxColumns, boxRows}, swizzle);
  };
  CHECK(encodes(data, 64, 64, 16, CU_TENSOR_MAP_SWIZZLE_128B));
  CHECK(!encodes(data + 1, 64, 64, 16, CU_TENSOR_MAP_SWIZZLE_128B));   // begins anywhere
  CHECK(!encodes(data, 60, 32, 16, CU_TENSOR_MAP_SWIZZLE_128B));       // rows do
  CHECK(!encodes(data, 64, 64, 16, CU_TENSOR_MAP_SWIZZLE_64B));        // a row longer than the swizzle
  CHECK(!encodes(data, 64, 64, 257, CU_TENSOR_MAP_SWIZZLE_128B));
}

TEST("emulator: what would hang, or go unseen, is reported") {
  const Matrix m = randomMatrix(8, 64, 3);
  const CUtensorMap map = mapOf(m, 8, 64, CU_TENSOR_MAP_SWIZZLE_128B);
  const auto alone = [](const std::function<void(unsigned char*, uint64_t*)>& first) {
    return [first] {
      onWarpgroup(4096, [&](unsigned char* memory, uint64_t* full) {
        if (threadIdx.x == 0) first(memory, full);
      });
    };
  };
  const auto together = [](const std::function<void()>& all) { return [all] { onWarpgroup(4096, [&](unsigned char*, uint64_t*) { all(); }); }; };
  CHECK(refuses("thread 0 and 0 others wait for the barrier at byte 4096 of shared memory to end its phase 0: 1 of 1 arrivals and 0 bytes",
                alone([](unsigned char*, uint64_t* full) { waitFor(full, 0); })));
  CHECK(refuses("0 of 1 arrivals and 512 bytes are missing", alone([&](unsigned char* memory, uint64_t* full) {
    expectBytes(full, 1536), copyBox(memory, &map, 0, 0, full), waitFor(full, 0);
  })));
  CHECK(refuses("more arrivals than the barrier has", alone([](unsigned char*, uint64_t* full) { expectBytes(full, 16), arrive(full); })));
  CHECK(refuses("a barrier that nobody has made", alone([](unsigned char* memory, uint64_t*) { arrive(reinterpret_cast<uint64_t*>(memory)); })));
  CHECK(refuses("a barrier that was overwritten", alone([](unsigned char*, uint64_t* full) { *full = 0, arrive(full); })));
  CHECK(refuses("not made known to the copy engine", alone([&](unsigned char* memory, uint64_t* full) {
    initBarrier(full - 1, 1), expectBytes(full - 1, 1024), copyBox(memory, &map, 0, 0, full - 1), waitFor(full - 1, 0);
  })));
  CHECK(refuses("no multiple of 128", alone([&](unsigned char* memory, uint64_t* full) { copyBox(memory + 64, &map, 0, 0, full); })));
  CHECK(refuses("outside the block's shared memory", alone([&](unsigned char* memory, uint64_t* full) { copyBox(memory + 3584, &map, 0, 0, full); })));
  CHECK(refuses("a block that has ended", [] {
    emulator::run(dim3(2), 2, 32, 64, [] {
      uint64_t* barrier = reinterpret_cast<uint64_t*>(dynamicShared());
      if (threadIdx.x == 0) initBarrier(barrier, 1);
      clusterSync();
      if (threadIdx.x == 0) arriveAt(barrier, 1 - clusterRank());  // and nobody waits for the other
    });
  }));
  float d[1][4];
  CHECK(refuses("a product without a fence", together([&] { multiply<8>(d, 0, 0, 0); })));
  CHECK(refuses("before that of its products", together([&] { fence(), multiply<8>(d, 0, 0, 0); })));
  CHECK(refuses("multiply different things", together([&] { fence(), multiply<8>(d, threadIdx.x / 32, 0, 0), commit(), waitProducts<0>(); })));
  CHECK(refuses("wait for products", together([&] {
    if (threadIdx.x >= 32) fence(), multiply<8>(d, 0, 0, 0), commit(), waitProducts<0>();
  })));
}

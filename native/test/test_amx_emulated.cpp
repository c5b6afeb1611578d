// The AMX kernels on machines without AMX: gemm_amx.cpp compiled once more with its tile instructions replaced by their
// definition in the architecture manual, and compared with the portable kernels on the same packed operands. What this
// cannot show is that the instructions themselves are issued and timed well; where the machine has AMX, test_kernels_linear.cpp
// runs the real ones. The name of this file does not end in _amx: it would be compiled for AVX-512, which the machine may lack, too.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "harness.h"
#include "ops/cpu/gemm_kernels.h"

namespace {

// Eight tiles of 16 rows of 64 bytes.
struct Tiles {
  bool configured = false;
  uint32_t word[8][16][16] = {};
} tiles;

void loadConfig(const void* config) {
  const auto* bytes = static_cast<const uint8_t*>(config);
  CHECK(bytes[0] == 1 && bytes[1] == 0);  // palette 1, start row 0
  for (int i = 2; i < 16; ++i) CHECK(bytes[i] == 0);
  for (int t = 0; t < 8; ++t) {
    uint16_t columnBytes;
    std::memcpy(&columnBytes, bytes + 16 + 2 * t, 2);
    CHECK(columnBytes == 64 && bytes[48 + t] == 16);
  }
  for (int t = 8; t < 16; ++t) CHECK(bytes[16 + 2 * t] == 0 || bytes[48 + t] == 16);
  tiles.configured = true;
}

void loadTile(int t, const void* base, int64_t stride) {
  CHECK(tiles.configured);
  for (int r = 0; r < 16; ++r) std::memcpy(tiles.word[t][r], static_cast<const char*>(base) + r * stride, 64);
}

void storeTile(int t, void* base, int64_t stride) {
  for (int r = 0; r < 16; ++r) std::memcpy(static_cast<char*>(base) + r * stride, tiles.word[t][r], 64);
}

float widen(uint32_t half) {
  half <<= 16;
  float f;
  std::memcpy(&f, &half, 4);
  return f;
}

// TDPBF16PS: for every row, column and word, even elements first, then odd ones.
void dotBf16(int c, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int k = 0; k < 16; ++k)
      for (int n = 0; n < 16; ++n) {
        float sum;
        std::memcpy(&sum, &tiles.word[c][m][n], 4);
        const uint32_t x = tiles.word[a][m][k], y = tiles.word[b][k][n];
        sum += widen(x & 0xffff) * widen(y & 0xffff);
        sum += widen(x >> 16) * widen(y >> 16);
        std::memcpy(&tiles.word[c][m][n], &sum, 4);
      }
}

// TDPBUSD: unsigned bytes of A, signed bytes of B.
void dotInt8(int c, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int k = 0; k < 16; ++k)
      for (int n = 0; n < 16; ++n)
        for (int i = 0; i < 4; ++i) {
          tiles.word[c][m][n] += static_cast<uint32_t>(static_cast<int32_t>(tiles.word[a][m][k] >> 8 * i & 0xff) *
                                                       static_cast<int8_t>(tiles.word[b][k][n] >> 8 * i & 0xff));
        }
}

}  // namespace

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_dpbusd
#define _tile_loadconfig loadConfig
#define _tile_release() (tiles.configured = false)
#define _tile_loadd loadTile
#define _tile_stored storeTile
#define _tile_zero(t) std::memset(tiles.word[t], 0, sizeof tiles.word[t])
#define _tile_dpbf16ps dotBf16
#define _tile_dpbusd dotInt8
#define amx amx_emulated
#include "ops/cpu/gemm_amx.cpp"
#undef amx

using namespace longlive::cpu;

namespace {

// Runs every height and width of a strip, over two blocks of words, and compares what a kernel must write.
void compare(const GemmKernel& tile, const GemmKernel& plain, bool bf16Words) {
  std::mt19937 random(1);
  const auto word = [&]() -> uint32_t {
    if (!bf16Words) return static_cast<uint32_t>(random());
    // Two bf16 in [1, 2) with random signs.
    return (random() & 0x807f807fu) | 0x3f803f80u;
  };
  double worst = 0;
  for (int words : {16, 48, 256}) {
    std::vector<uint32_t> a(2 * 32 * kStride), b(2 * words * kPanel);
    for (uint32_t& w : a) w = word();
    for (uint32_t& w : b) w = word();
    for (int rows = 1; rows <= 32; ++rows) {
      for (int columns : {1, 15, 16, 17, 31, 32}) {
        constexpr int kOut = 40;  // wider than a panel: the stride of C matters
        std::vector<uint32_t> got(32 * kOut), want(32 * kOut);
        tile.begin();
        for (int block = 0; block < 2; ++block) {
          const uint32_t* x = a.data() + block * 32 * kStride;
          const uint32_t* y = b.data() + block * words * kPanel;
          tile.run(rows, columns, words, x, y, got.data(), kOut, block > 0);
          for (int r = 0; r < rows; r += plain.stripRows) {
            plain.run(std::min(plain.stripRows, rows - r), columns, words, x + r * kStride, y, want.data() + r * kOut, kOut, block > 0);
          }
        }
        tile.end();
        for (int r = 0; r < rows; ++r)
          for (int n = 0; n < columns; ++n) {
            const uint32_t g = got[r * kOut + n], w = want[r * kOut + n];
            if (bf16Words) {
              float x, y;
              std::memcpy(&x, &g, 4);
              std::memcpy(&y, &w, 4);
              worst = std::max(worst, static_cast<double>(std::abs(x - y)) / (2.0 * words));
            } else {
              worst = std::max(worst, g == w ? 0.0 : 1.0);
            }
          }
      }
    }
  }
  std::printf("  %-46s worst %.2e  tolerance 1e-06\n", tile.name, worst);
  CHECK(worst <= 1e-6);
}

}  // namespace

TEST("cpu: AMX kernels, emulated") {
  compare(longlive::cpu::amx_emulated::gemmBf16, portable::gemmBf16, true);
  compare(longlive::cpu::amx_emulated::gemmInt8, portable::gemmInt8, false);
}

#endif

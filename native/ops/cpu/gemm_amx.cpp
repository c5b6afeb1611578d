// AMX: the tile unit multiplies a tile of A [16 rows][16 words] by a tile of B [16 words][16 columns] into a tile of C
// [16][16]. A strip is two tiles high and a panel two tiles wide: four tiles of C, two of A, two of B, all eight there are.
// The packed layouts are those of the vector kernels: a panel row is 32 words, so a tile of B is 16 rows 128 bytes apart.
#include <immintrin.h>

#include "gemm_kernels.h"

namespace longlive::cpu::amx {
namespace {

// Palette 1, all tiles 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t columnBytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

void begin() {
  static const TileConfig config;
  _tile_loadconfig(&config);
}

void end() { _tile_release(); }

constexpr int kTileWords = 16;
constexpr int64_t kRowBytesA = kStride * 4, kRowBytesB = kPanel * 4;

// Tiles: 0..3 = C[high][wide], 4..5 = A, 6..7 = B. The tile number is part of the instruction, hence the macro.
#define LONGLIVE_AMX_STRIP(NAME, DOT)                                                                                \
  void NAME(int rows, int columns, int words, const uint32_t* a, const uint32_t* b, void* out, int64_t ldc,           \
            bool accumulate) {                                                                                       \
    const bool high = rows > 16, wide = columns > 16;                                                                \
    const int64_t rowBytesC = ldc * 4;                                                                               \
    uint32_t* c = static_cast<uint32_t*>(out);                                                                       \
    if (accumulate) {                                                                                                \
      _tile_loadd(0, c, rowBytesC);                                                                                  \
      if (wide) _tile_loadd(1, c + 16, rowBytesC);                                                                   \
      if (high) _tile_loadd(2, c + 16 * ldc, rowBytesC);                                                             \
      if (high && wide) _tile_loadd(3, c + 16 * ldc + 16, rowBytesC);                                                \
    } else {                                                                                                         \
      _tile_zero(0);                                                                                                 \
      _tile_zero(1);                                                                                                 \
      _tile_zero(2);                                                                                                 \
      _tile_zero(3);                                                                                                 \
    }                                                                                                                \
    for (int w = 0; w < words; w += kTileWords, a += kTileWords, b += kTileWords * kPanel) {                         \
      _tile_loadd(4, a, kRowBytesA);                                                                                 \
      _tile_loadd(6, b, kRowBytesB);                                                                                 \
      DOT(0, 4, 6);                                                                                                  \
      if (wide) {                                                                                                    \
        _tile_loadd(7, b + 16, kRowBytesB);                                                                          \
        DOT(1, 4, 7);                                                                                                \
      }                                                                                                              \
      if (high) {                                                                                                    \
        _tile_loadd(5, a + 16 * kStride, kRowBytesA);                                                                \
        DOT(2, 5, 6);                                                                                                \
        if (wide) DOT(3, 5, 7);                                                                                      \
      }                                                                                                              \
    }                                                                                                                \
    _tile_stored(0, c, rowBytesC);                                                                                   \
    if (wide) _tile_stored(1, c + 16, rowBytesC);                                                                    \
    if (high) _tile_stored(2, c + 16 * ldc, rowBytesC);                                                              \
    if (high && wide) _tile_stored(3, c + 16 * ldc + 16, rowBytesC);                                                 \
  }

LONGLIVE_AMX_STRIP(runBf16, _tile_dpbf16ps)
LONGLIVE_AMX_STRIP(runInt8, _tile_dpbusd)

}  // namespace

const GemmKernel gemmBf16 = {"amx bf16", 32, runBf16, begin, end};
const GemmKernel gemmInt8 = {"amx int8", 32, runInt8, begin, end};

}  // namespace longlive::cpu::amx

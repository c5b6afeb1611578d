// How an int8 linear layer on Hopper is spread over clusters of two blocks (linear_sm90.cu). Plain C++: tested without a device.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels.h"

namespace longlive::cuda {

constexpr int kLinearPair = 2, kLinearRows = 128, kLinearDepth = 128;  // blocks in a cluster; rows and bytes of depth of a tile
constexpr int kLinearWidths[] = {256, 224};                            // columns of a tile

struct LinearTile { int row, column; };  // counted in tiles

// What a cluster does at once is a unit: two tiles of rows, one below the other, with the same columns. An odd last tile of rows takes two tiles of
// columns instead, of which the last may lie behind the matrix.
struct LinearUnits {
  int rowTiles = 0, columnTiles = 0, chunks = 0;  // chunks of depth

  static LinearUnits of(int64_t rows, int64_t columns, int64_t depth, int width) {
    const auto tiles = [](int64_t n, int64_t size) { return static_cast<int>(ceilDiv(n, size)); };
    return {tiles(rows, kLinearRows), tiles(columns, width), tiles(depth, kLinearDepth)};
  }

  __host__ __device__ int pairs() const { return rowTiles / kLinearPair; }
  __host__ __device__ int shared() const { return pairs() * columnTiles; }  // units whose blocks have the same columns; they come first
  __host__ __device__ int count() const { return shared() + rowTiles % kLinearPair * ((columnTiles + kLinearPair - 1) / kLinearPair); }

  // What a cluster's block of that rank does of a unit. Rows are fastest: the clusters at work share some columns' weights and all rows.
  __host__ __device__ LinearTile tile(int unit, int rank) const {
    if (unit < shared()) return {unit % pairs() * kLinearPair + rank, unit / pairs()};
    return {rowTiles - 1, (unit - shared()) * kLinearPair + rank};
  }
};

// Columns of a tile: those with which the longest way through a cluster is shortest, and the widest of them, which ask L2 for least.
inline int linearWidth(int64_t rows, int64_t columns, int clusters) {
  const auto way = [&](int width) {
    const int units = LinearUnits::of(rows, columns, 1, width).count();
    return (units + clusters - 1) / clusters * width;
  };
  return *std::min_element(std::begin(kLinearWidths), std::end(kLinearWidths), [&](int a, int b) { return way(a) < way(b); });
}

}  // namespace longlive::cuda

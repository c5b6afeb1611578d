// How the Hopper convolution (conv_sm90.cu) cuts its work: tiles of output pixels, boxes of the input, slices and taps of the
// depth. Plain arithmetic, so that it is tested without a device.
//
//   tile    8 mTiles x 16 output pixels of a frame (and phase) times nTile output channels: blocks of 8 x 8 pixels, 64 rows of a
//           wgmma each, mTiles beside each other for either of the two warpgroups, which lie above each other
//   slice   one tap in time and one chunk of channels. Its box of the input holds the tile's pixels and their margin, and
//           serves all kh kw taps in space: a tap is the same box, read from another pixel on
//   row     a pixel of the box, the chunk of its channels; so the eight pixels of a block's line are eight rows behind each other
#pragma once

#include <cmath>

#include "gemm.h"

namespace longlive::cuda {

constexpr int kConvBlock = 8, kConvGroups = 2;    // pixels on a side of a block; warpgroups
constexpr int kConvShared = 227 * 1024 - 1024;    // bytes of shared memory for stages; the rest is for barriers
constexpr int kConvStages = 8;                    // at most, of boxes and of weights

struct ConvTile {
  int frame, phase, y, x, column;  // y, x: the first pixel, in the grid of its phase; column: the first output channel
};

// What the kernel instances differ in.
struct ConvShape {
  int chunk;          // channels of a slice: 64 or 32, rows of 128 or 64 bytes
  int nTile, mTiles;
};

struct ConvPlan {
  ConvShape shape;
  int chunks;                    // of the channels
  int columns, columnTiles, tilesX, tilesY, frames, phases;
  int boxStages, weightStages;

  __host__ __device__ static int tileWidth(const ConvShape& s) { return kConvBlock * s.mTiles; }
  __host__ __device__ static int tileHeight() { return kConvBlock * kConvGroups; }
  __host__ __device__ int tiles() const { return columnTiles * phases * frames * tilesX * tilesY; }

  // Tiles of neighbouring numbers are at work at the same time: they share pixels, in space or in time, and so the L2 cache.
  __host__ __device__ ConvTile tile(int i) const {
    const int column = i % columnTiles, phase = i / columnTiles % phases;
    i /= columnTiles * phases;
    const int frame = i % frames;
    i /= frames;
    return {frame, phase, i / tilesX * tileHeight(), i % tilesX * tileWidth(shape), column * shape.nTile};
  }
};

// The margin of a box: it is as large as the tile and the kernel without its first tap.
__host__ __device__ inline int boxWidth(const ConvPlan& p, const Gather& g) { return ConvPlan::tileWidth(p.shape) + g.kw - 1; }
__host__ __device__ inline int boxHeight(const Gather& g) { return ConvPlan::tileHeight() + g.kh - 1; }

// The row of the box where block `m` of warpgroup `group` begins for the tap (dy, dx); dx counts from the box's first column on.
__host__ __device__ inline int blockRow(int width, int group, int m, int dy, int dx) {
  return (group * kConvBlock + dy) * width + m * kConvBlock + dx;
}

// The frame that an output frame sees first, and the first tap whose frame there is (those before are zero).
__host__ __device__ inline int frameSeen(const Gather& g, int frame, int dt) { return frame * g.strideT - g.firstFrame + dt; }
__host__ __device__ inline int firstTap(const Gather& g, int frame) {
  const int missing = -g.olderFrames - frameSeen(g, frame, 0);
  return missing > 0 ? missing : 0;
}
// Where a box begins in the input. What lies outside of it reads as zero, which is the padding.
__host__ __device__ inline int boxX(const Gather& g, const ConvTile& t) { return t.x - g.padLeft + t.phase % 2; }
__host__ __device__ inline int boxY(const Gather& g, const ConvTile& t) { return t.y - g.padTop + t.phase / 2; }
// Where a tap's weights of a chunk lie in a row of them.
__host__ __device__ inline int depthOf(const Gather& g, int dt, int dy, int dx, int channel) {
  return ((dt * g.kh + dy) * g.kw + dx) * g.channels + channel;
}

// Bytes of a stage; copies with a swizzle want them to begin at multiples of 1024.
__host__ __device__ inline int boxBytes(const ConvPlan& p, const Gather& g) { return boxWidth(p, g) * boxHeight(g) * p.shape.chunk * 2; }
__host__ __device__ inline int weightBytes(const ConvShape& s) { return s.nTile * s.chunk * 2; }
__host__ __device__ inline int stageBytes(int bytes) { return (bytes + 1023) / 1024 * 1024; }

// Cycles per 16 of depth, of a tile: the tensor cores' (64 x n x 16 in n / 2), shared memory's (128 bytes per cycle: both operands of
// every product, and what is copied in) or the L2 cache's (24 bytes per cycle for each multiprocessor, of which `busy` are; a box serves all taps).
inline double tileCycles(const ConvShape& s, int taps, double busy) {
  const int blocks = kConvGroups * s.mTiles;
  const double copied = 32 * (s.nTile + 1.3 * 64 * blocks / taps), multiplied = 32.0 * blocks * (64 + s.nTile);
  return std::max({blocks * s.nTile / 2.0, (copied + multiplied) / 128, busy * copied / 24});
}

// Shared memory goes to boxes and weights so that copies are as many taps ahead of the products as can be: a tap has weights of its
// own and shares its box with `taps`.
inline void shareStages(ConvPlan& p, int box, int weights, int taps) {
  int most = 0;
  p.boxStages = p.weightStages = 0;
  for (int boxes = 2; boxes <= kConvStages; ++boxes) {
    const int rest = std::min((kConvShared - boxes * box) / weights, kConvStages), ahead = std::min(rest, (boxes - 1) * taps);
    if (ahead > most) most = ahead, p.boxStages = boxes, p.weightStages = rest;
  }
}

inline bool fits(ConvPlan& p, const Gather& g, const ConvShape& s, int64_t columns) {
  if (g.channels % s.chunk || (s.nTile == 8 ? columns > 8 : columns % s.nTile != 0)) return false;  // 8: the colours of a picture
  p.shape = s, p.chunks = g.channels / s.chunk;
  p.columns = static_cast<int>(columns), p.columnTiles = static_cast<int>(ceilDiv(columns, s.nTile));
  p.tilesX = static_cast<int>(ceilDiv(g.gridWidth, ConvPlan::tileWidth(s))), p.tilesY = static_cast<int>(ceilDiv(g.gridHeight, ConvPlan::tileHeight()));
  p.frames = static_cast<int>(g.frames), p.phases = g.scale == 2 ? 4 : 1;
  shareStages(p, stageBytes(boxBytes(p, g)), stageBytes(weightBytes(s)), g.kh * g.kw);
  return p.weightStages >= 3 && boxWidth(p, g) <= 256 && boxHeight(g) <= 256;
}

// The best of the kernel's instances for this convolution; false if there is none.
constexpr ConvShape kConvShapes[] = {{64, 192, 2}, {64, 192, 1}, {64, 128, 2}, {64, 128, 1}, {64, 96, 4}, {64, 64, 4},
                                     {64, 8, 4},   {32, 96, 4},  {32, 8, 4}};
inline bool planConv(ConvPlan& best, const Gather& g, int64_t columns, int multiprocessors) {
  double least = HUGE_VAL;
  if (g.stride != 1 || g.frames * g.gridHeight * g.gridWidth > (int64_t{1} << 30)) return false;
  for (const ConvShape& s : kConvShapes) {
    ConvPlan p;
    if (!fits(p, g, s, columns)) continue;
    const double busy = std::min(1.0, static_cast<double>(p.tiles()) / multiprocessors);
    const double cost = static_cast<double>(ceilDiv(p.tiles(), multiprocessors)) * tileCycles(s, g.kh * g.kw, busy);
    if (cost < least) least = cost, best = p;
  }
  return least < HUGE_VAL;
}

}  // namespace longlive::cuda

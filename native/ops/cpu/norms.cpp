// Normalisation and rotation, one row (token) at a time; rows are shared out over the threads.
//
//   LayerNorm   (x - mean) / sqrt(mean((x - mean)^2) + eps), two passes over a row that lies in the L1 cache
//   RMSNorm     x / sqrt(mean(x^2) + eps) * weight, over the whole row: all heads together (spec 2.5)
//   rotation    pair (re, im) of every head times (cos + i sin), by three positions (spec 2.6): as vectors,
//               x * [c, c] + swapped x * [-s, s], whose tables are laid out once per token and serve all its heads

#include "kernels.h"
#include "require.h"
#include "vector_ops.h"

namespace longlive::cpu {
namespace {

// Rows per chunk: about 16 Ki elements, some microseconds of work.
int64_t grain(int64_t width) { return 16384 / (width > 0 ? width : 1) + 1; }

// Lays out the rotation of one token: cosine [headDim] = c, c per pair; sine [headDim] = -s, s.
void tokenRotation(const RopeShape& r, int64_t token, float* cosine, float* sine) {
  const int64_t x = token % r.gridWidth, y = token / r.gridWidth % r.gridHeight, frame = token / (r.gridWidth * r.gridHeight);
  const auto axis = [&](const float* table, int64_t position, int64_t pairs) {
    const float* p = table + position * pairs * 2;
    for (int64_t i = 0; i < pairs; ++i, p += 2) {
      *cosine++ = p[0];
      *cosine++ = p[0];
      *sine++ = -p[1];
      *sine++ = p[1];
    }
  };
  axis(r.temporal, r.position[static_cast<size_t>(frame)], r.t);
  axis(r.row, y, r.h);
  axis(r.column, x, r.w);
}

void checkRotation(const RopeShape& r, int64_t rows, int64_t width) {
  require(width == r.heads * 2 * (r.t + r.h + r.w), "rope: the tables do not match the head");
  require(rows == static_cast<int64_t>(r.position.size()) * r.gridHeight * r.gridWidth, "rope: one position per frame");
}

}  // namespace

// The row itself and the rotation of its token.
size_t rowScratch(int64_t width, int64_t headDim) { return static_cast<size_t>(width + 2 * headDim) * sizeof(float); }

void layerNormModulate(Context& c, float* out, const float* in, int64_t rows, int64_t width, const float* scale,
                       const float* shift, int64_t frames, float eps) {
  require(frames > 0 && rows % frames == 0, "layerNormModulate: rows are no multiple of frames");
  const int64_t perFrame = rows / frames;
  c.pool.parallelFor(0, rows, grain(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t f = i / perFrame * width;
      c.vector.layerNorm(out + i * width, in + i * width, width, scale + f, shift + f, 1.0f, eps);
    }
  });
}

void layerNormAffine(Context& c, float* out, const float* in, int64_t rows, int64_t width, const float* weight,
                     const float* bias, float eps) {
  c.pool.parallelFor(0, rows, grain(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      c.vector.layerNorm(out + i * width, in + i * width, width, weight, bias, 0.0f, eps);
    }
  });
}

void rmsNorm(Context& c, void* out, DType outType, const float* in, int64_t rows, int64_t width, const float* weight,
             float eps) {
  const bool round = outType == DType::BF16;
  c.pool.parallelFor(0, rows, grain(width), [&](int64_t begin, int64_t end, int thread) {
    float* row = round ? static_cast<float*>(c.pool.scratch(thread)) : nullptr;
    for (int64_t i = begin; i < end; ++i) {
      c.vector.rmsNorm(round ? row : static_cast<float*>(out) + i * width, in + i * width, width, weight, eps);
      if (round) c.vector.toBf16(static_cast<bf16*>(out) + i * width, row, width);
    }
  }, round ? rowScratch(width, 0) : 0);
}

void rmsNormRope(Context& c, void* out, DType outType, const float* in, int64_t rows, int64_t width, const float* weight,
                 float eps, const RopeShape& r) {
  checkRotation(r, rows, width);
  const bool round = outType == DType::BF16;
  const int64_t headDim = width / r.heads;
  c.pool.parallelFor(0, rows, grain(width), [&](int64_t begin, int64_t end, int thread) {
    float* row = static_cast<float*>(c.pool.scratch(thread));
    float* cosine = row + width;
    for (int64_t i = begin; i < end; ++i) {
      tokenRotation(r, i, cosine, cosine + headDim);
      c.vector.rmsNorm(row, in + i * width, width, weight, eps);
      c.vector.rotate(round ? row : static_cast<float*>(out) + i * width, row, r.heads, headDim, cosine, cosine + headDim);
      if (round) c.vector.toBf16(static_cast<bf16*>(out) + i * width, row, width);
    }
  }, rowScratch(width, headDim));
}

void rope(Context& c, void* out, DType outType, const void* in, DType inType, int64_t rows, int64_t width,
          const RopeShape& r) {
  checkRotation(r, rows, width);
  const bool widen = inType == DType::BF16, round = outType == DType::BF16;
  const int64_t headDim = width / r.heads;
  c.pool.parallelFor(0, rows, grain(width), [&](int64_t begin, int64_t end, int thread) {
    float* row = static_cast<float*>(c.pool.scratch(thread));
    float* cosine = row + width;
    for (int64_t i = begin; i < end; ++i) {
      tokenRotation(r, i, cosine, cosine + headDim);
      if (widen) c.vector.fromBf16(row, static_cast<const bf16*>(in) + i * width, width);
      const float* from = widen ? row : static_cast<const float*>(in) + i * width;
      float* to = round ? row : static_cast<float*>(out) + i * width;
      c.vector.rotate(to, from, r.heads, headDim, cosine, cosine + headDim);
      if (round) c.vector.toBf16(static_cast<bf16*>(out) + i * width, row, width);
    }
  }, rowScratch(width, headDim));
}

}  // namespace longlive::cpu

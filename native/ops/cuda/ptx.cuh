// The few instructions that C++ has no words for: asynchronous copies, ldmatrix and the tensor cores' mma (sm_80 and later; fp8
// from sm_89 on).
// Each has an emulated twin that follows the fragment layouts of the PTX manual word by word, so that kernels written with
// them are tested on the processor.
//
// Fragments of one warp, lane = 4 g + t (g: 0..7, t: 0..3); a word holds two bf16 or four bytes, int8 or fp8, of a row:
//   A (16 rows x 32 bytes): a0 = row g, word t; a1 = row g + 8, word t; a2 = row g, word t + 4; a3 = row g + 8, word t + 4
//   B (8 columns x 32 bytes, each column contiguous): b0 = column g, word t; b1 = column g, word t + 4
//   C (16 x 8): c0, c1 = row g, columns 2 t, 2 t + 1; c2, c3 = row g + 8
// k = 32 of 8 bits and k = 16 of bf16 are both 32 bytes: the same loads serve both.
#pragma once

#include "device.cuh"
#include "e4m3.h"

#if defined(LONGLIVE_CUDA_EMULATED) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890)
#define LONGLIVE_FP8 1  // elsewhere kernels that need it are compiled, empty, and never launched (hasFp8)
#endif

namespace longlive::cuda {

// Copies 16 bytes into shared memory; with inside = false writes zeros and does not touch `from`.
__device__ __forceinline__ void copyAsync16(void* to, const void* from, bool inside) {
#ifdef LONGLIVE_CUDA_EMULATED
  emulator::asyncCopy(to, from, 16, inside ? 16 : 0);
#else
  const uint32_t shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(inside ? 16 : 0) : "memory");
#endif
}
__device__ __forceinline__ void commitCopies() {
#ifdef LONGLIVE_CUDA_EMULATED
  emulator::asyncCommit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Until at most N of this thread's groups are under way.
template <int N> __device__ __forceinline__ void waitCopies() {
#ifdef LONGLIVE_CUDA_EMULATED
  emulator::asyncWait(N);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

#ifdef LONGLIVE_CUDA_EMULATED
namespace emulated {
struct MatrixLane { const void* row; uint32_t* words; };
template <bool Transposed> void loadMatrices(void** all) {
  uint32_t result[32][4];
  for (int m = 0; m < 4; ++m)
    for (int lane = 0; lane < 32; ++lane) {
      const auto element = [&](int r, int c) {
        uint16_t v;
        std::memcpy(&v, static_cast<const char*>(static_cast<MatrixLane*>(all[8 * m + r])->row) + 2 * c, 2);
        return static_cast<uint32_t>(v);
      };
      const int g = lane / 4, t = lane % 4;
      result[lane][m] = Transposed ? element(2 * t, g) | element(2 * t + 1, g) << 16 : element(g, 2 * t) | element(g, 2 * t + 1) << 16;
    }
  for (int lane = 0; lane < 32; ++lane) std::memcpy(static_cast<MatrixLane*>(all[lane])->words, result[lane], 16);
}
template <class C> struct MmaLane { C* c; const uint32_t* a; const uint32_t* b; };
inline float multiplyBf16(float c, uint32_t a, uint32_t b) { return c + lowFloat(a) * lowFloat(b) + highFloat(a) * highFloat(b); }
inline int32_t multiplyInt8(int32_t c, uint32_t a, uint32_t b) {
  for (int i = 0; i < 4; ++i) c += static_cast<int8_t>(a >> 8 * i) * static_cast<int8_t>(b >> 8 * i);
  return c;
}
inline float multiplyFp8(float c, uint32_t a, uint32_t b) {
  for (int i = 0; i < 4; ++i) c += fromE4m3(static_cast<uint8_t>(a >> 8 * i)) * fromE4m3(static_cast<uint8_t>(b >> 8 * i));
  return c;
}
template <class C, C (*Words)(C, uint32_t, uint32_t)> void multiply(void** all) {
  uint32_t a[16][8], b[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& l = *static_cast<MmaLane<C>*>(all[lane]);
    const int g = lane / 4, t = lane % 4;
    a[g][t] = l.a[0], a[g + 8][t] = l.a[1], a[g][t + 4] = l.a[2], a[g + 8][t + 4] = l.a[3];
    b[g][t] = l.b[0], b[g][t + 4] = l.b[1];
  }
  for (int lane = 0; lane < 32; ++lane) {
    C* c = static_cast<MmaLane<C>*>(all[lane])->c;
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i)
      for (int w = 0; w < 8; ++w) c[i] = Words(c[i], a[g + i / 2 * 8][w], b[2 * t + i % 2][w]);
  }
}
}  // namespace emulated
#endif

// Four 8 x 16-byte matrices. Lane 8 m + r points to row r of matrix m; word m of the result holds, of matrix m, row g and
// word t, or if Transposed (16-bit elements) rows 2 t, 2 t + 1 of column g.
template <bool Transposed = false>
__device__ __forceinline__ void loadMatrices(uint32_t (&w)[4], const void* row) {
#ifdef LONGLIVE_CUDA_EMULATED
  emulated::MatrixLane lane{row, w};
  emulator::warp(&lane, &emulated::loadMatrices<Transposed>);
#else
  const uint32_t shared = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "r"(shared) : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "r"(shared) : "memory");
  }
#endif
}

// c += a b^T over bf16, k = 16.
__device__ __forceinline__ void multiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef LONGLIVE_CUDA_EMULATED
  const uint32_t b[2] = {b0, b1};
  emulated::MmaLane<float> lane{c, a, b};
  emulator::warp(&lane, &emulated::multiply<float, emulated::multiplyBf16>);
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// c += a b^T over int8, k = 32.
__device__ __forceinline__ void multiplyAdd(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef LONGLIVE_CUDA_EMULATED
  const uint32_t b[2] = {b0, b1};
  emulated::MmaLane<int32_t> lane{c, a, b};
  emulator::warp(&lane, &emulated::multiply<int32_t, emulated::multiplyInt8>);
#else
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// c += a b^T over fp8, k = 32. Chips of 8.9 and 12.x have the instruction; for 9.0 and 10.x the compiler converts to f16 and multiplies that.
// Tensor cores may keep fewer bits of such sums than F32 has: long ones are to be taken over into F32 now and then.
__device__ __forceinline__ void multiplyAddFp8(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef LONGLIVE_CUDA_EMULATED
  const uint32_t b[2] = {b0, b1};
  emulated::MmaLane<float> lane{c, a, b};
  emulator::warp(&lane, &emulated::multiply<float, emulated::multiplyFp8>);
#elif defined(LONGLIVE_FP8)
  asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  __trap();
#endif
}

// Four fp8 in a word, x0 at the lowest address; to nearest even, what is too large becomes the largest number.
__device__ __forceinline__ uint32_t packFp8(float x0, float x1, float x2, float x3) {
#ifdef LONGLIVE_CUDA_EMULATED
  return roundToE4m3(x0) | roundToE4m3(x1) << 8 | roundToE4m3(x2) << 16 | static_cast<uint32_t>(roundToE4m3(x3)) << 24;
#elif defined(LONGLIVE_FP8)
  uint16_t low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(x1), "f"(x0));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(x3), "f"(x2));
  return low | static_cast<uint32_t>(high) << 16;
#else
  __trap();
  return 0;
#endif
}

// Four int8 in a word, of values within -127..127.
__device__ __forceinline__ uint32_t packInt8(float x0, float x1, float x2, float x3) {
  const auto byte = [](float x) { return static_cast<uint32_t>(__float2int_rn(x)) & 0xffu; };
  return byte(x0) | byte(x1) << 8 | byte(x2) << 16 | byte(x3) << 24;
}

// 2^x by the special function unit.
__device__ __forceinline__ float exp2Fast(float x) {
#ifdef LONGLIVE_CUDA_EMULATED
  return exp2f(x);
#else
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
#endif
}

}  // namespace longlive::cuda

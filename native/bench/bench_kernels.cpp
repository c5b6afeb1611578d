// Speed of the matrix kernels: GFLOP/s (GOP/s for int8) per instruction set and shape, beside what the processor can do at
// most, measured by a loop of independent fused multiply-adds on every thread. Best of many short runs, because the
// machine may be shared; with one thread, processor time is taken instead of time on the wall, so that other programs do
// not count at all.
//
//   bench_kernels [--threads N] [--isa NAME]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ops/cpu/gemm_kernels.h"
#include "ops/cpu/kernels.h"

using namespace longlive;
using namespace longlive::cpu;

namespace {

bool processorTime = false;  // of this thread: fair with one thread only

double seconds() {
#if defined(__linux__)
  if (processorTime) {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }
#endif
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Best time of one call of f, over about 0.15 s.
template <class F>
double best(F f) {
  f();
  double least = 1e30;
  const double end = seconds() + 0.15;
  for (int i = 0; i < 5 || seconds() < end; ++i) {
    const double t = seconds();
    f();
    least = std::min(least, seconds() - t);
  }
  return least;
}

// -- the machine's peak -------------------------------------------------------------------------------------------------------

// 24 chains hide the latency of any of these instructions. The empty asm keeps the values unknown to the compiler.
#define LONGLIVE_PEAK(NAME, TARGET, TYPE, OPERAND, STEP)                          \
  __attribute__((target(TARGET))) void NAME(int64_t rounds) {                     \
    TYPE acc[24] = {};                                                            \
    OPERAND a = {}, b = {};                                                       \
    __asm__ volatile("" : "+v"(a), "+v"(b));                                      \
    _Pragma("GCC unroll 24") for (int k = 0; k < 24; ++k) __asm__ volatile("" : "+v"(acc[k])); \
    for (int64_t i = 0; i < rounds; ++i) {                                        \
      _Pragma("GCC unroll 24") for (int k = 0; k < 24; ++k) acc[k] = STEP;        \
    }                                                                             \
    _Pragma("GCC unroll 24") for (int k = 0; k < 24; ++k) __asm__ volatile("" ::"v"(acc[k])); \
  }

#if defined(__x86_64__)
#define LONGLIVE_PEAK_BF16 _mm512_dpbf16_ps(acc[k], (__m512bh)a, (__m512bh)b)
LONGLIVE_PEAK(peakAvx512, "avx512f", __m512, __m512, _mm512_fmadd_ps(a, b, acc[k]))
LONGLIVE_PEAK(peakBf16, "avx512f,avx512bf16", __m512, __m512i, LONGLIVE_PEAK_BF16)
LONGLIVE_PEAK(peakVnni, "avx512f,avx512vnni", __m512i, __m512i, _mm512_dpbusd_epi32(acc[k], a, b))
#undef LONGLIVE_PEAK_BF16
#endif

// Operations per second in 1e9 of all threads, `perStep` multiply-adds per instruction.
double peak(ThreadPool& pool, void (*loop)(int64_t), int perStep) {
  constexpr int64_t kRounds = 20000;
  const int threads = pool.threads();
  const double t = best([&] {
    pool.parallelFor(0, threads * 4, 1, [&](int64_t begin, int64_t end, int) { loop((end - begin) * kRounds); });
  });
  return 2.0 * 24 * kRounds * perStep * threads * 4 / t / 1e9;
}

// -- kernels ------------------------------------------------------------------------------------------------------------------

std::vector<float> randomFloats(int64_t n) {
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = uniform(generator);
  return v;
}

double linearSpeed(Context& c, int64_t m, int64_t k, int64_t n, Precision p, Activation a) {
  const std::vector<float> x = randomFloats(m * k), w = randomFloats(n * k), b = randomFloats(n);
  std::vector<float> out(static_cast<size_t>(m * n));
  const auto packed = packLinear(c, {w.data(), DType::F32, n, k, {}, "w"}, b.data(), p);
  LinearEpilogue e;
  e.activation = a;
  return 2.0 * static_cast<double>(m * n * k) / best([&] { linear(c, out.data(), x.data(), m, *packed, e); }) / 1e9;
}

double attentionSpeed(Context& c, int64_t queries, int64_t keys, int64_t heads, int64_t headDim, DType type) {
  const int64_t width = heads * headDim;
  const std::vector<float> q = randomFloats(queries * width), kv = randomFloats(keys * width);
  std::vector<bf16> bits(kv.size());
  toBf16(c, bits.data(), kv.data(), keys * width);
  std::vector<float> out(q.size());
  const KeyRange all{0, keys};
  const void* data = type == DType::F32 ? static_cast<const void*>(kv.data()) : bits.data();
  const double t = best([&] {
    attention(c, {out.data(), q.data(), data, data, type, {&all, 1}, queries, heads, headDim, 0.125f});
  });
  return 4.0 * static_cast<double>(queries * keys * width) / t / 1e9;
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 0;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--threads") && i + 1 < argc) threads = std::atoi(argv[++i]);
    else if (!std::strcmp(argv[i], "--isa") && i + 1 < argc) only = argv[++i];
    else return std::fprintf(stderr, "usage: bench_kernels [--threads N] [--isa NAME]\n"), 2;
  }
  ThreadPool pool(threads);
  processorTime = pool.threads() == 1;
  const Isa top = detectIsa();
  std::printf("%s, %d threads, %s\n", processorName().c_str(), pool.threads(), nameOf(top));
  double fmaPeak = 0;
#if defined(__x86_64__)
  if (top >= Isa::Avx512) std::printf("peak F32 %.0f GFLOP/s\n", fmaPeak = peak(pool, peakAvx512, 16));
  if (top >= Isa::Avx512Bf16) std::printf("peak bf16 (VDPBF16PS) %.0f GFLOP/s\n", peak(pool, peakBf16, 32));
  if (top >= Isa::Avx512Vnni) std::printf("peak int8 (VPDPBUSD) %.0f GOP/s\n", peak(pool, peakVnni, 64));
#endif

  const int64_t shapes[][3] = {{1, 1536, 1536},   {432, 192, 192},   {432, 192, 576},    {432, 576, 192},    {432, 192, 768},
                               {1728, 192, 576},  {256, 1536, 1536}, {1024, 1536, 1536}, {1024, 1536, 8960}, {1024, 8960, 1536}};
  std::printf("\n%-22s %-20s", "linear, kernel", "");
  for (const auto& s : shapes) std::printf(" %5ldx%ldx%ld", static_cast<long>(s[0]), static_cast<long>(s[1]), static_cast<long>(s[2]));
  std::printf("\n");
  for (Isa isa : kLevels) {
    if (isa > top || (!only.empty() && only != nameOf(isa))) continue;
    Context c(pool, isa);
    for (Precision p : {Precision::FP32, Precision::BF16, Precision::INT8}) {
      // A level is listed where it brings a kernel of its own.
      const auto kernel = [p](Isa i) -> const GemmKernel& { return gemmKernel(i, operandOf(i, p)); };
      if (isa > Isa::Portable && &kernel(isa) == &kernel(below(isa)) && only.empty()) continue;
      std::printf("%-22s %-20s", nameOf(isa), kernel(isa).name);
      for (const auto& s : shapes) {
        if (isa == Isa::Portable && s[0] * s[1] * s[2] > 4e8) {
          std::printf(" %10s", "-");
          continue;
        }
        const double speed = linearSpeed(c, s[0], s[1], s[2], p, Activation::None);
        if (p == Precision::FP32 && fmaPeak > 0) std::printf(" %6.0f %2.0f%%", speed, 100 * speed / fmaPeak);
        else std::printf(" %10.0f", speed);
        std::fflush(stdout);
      }
      std::printf("\n");
    }
  }

  const int64_t attentions[][4] = {{252, 252, 3, 64}, {252, 1008, 3, 64}, {1008, 1008, 3, 64}, {252, 16, 3, 64}, {512, 512, 6, 64}, {1560, 4680, 2, 128}};
  std::printf("\n%-22s %-20s", "attention", "");
  for (const auto& s : attentions)
    std::printf(" %ldx%ld %ldx%ld", static_cast<long>(s[0]), static_cast<long>(s[1]), static_cast<long>(s[2]), static_cast<long>(s[3]));
  std::printf("\n");
  for (Isa isa : kLevels) {
    if (isa == Isa::Portable || isa > top || (!only.empty() && only != nameOf(isa))) continue;
    Context c(pool, isa);
    for (DType type : {DType::F32, DType::BF16}) {
      std::printf("%-22s %-20s", nameOf(isa), longlive::nameOf(type));
      for (const auto& s : attentions) std::printf(" %13.0f", attentionSpeed(c, s[0], s[1], s[2], s[3], type));
      std::printf("\n");
    }
  }
  return 0;
}

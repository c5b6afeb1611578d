// Attention on the CPU.
#include "kernel_oracles.h"

using namespace longlive;
using namespace longlive::cpu;

namespace {

struct AttentionCase {
  int64_t queries, heads, headDim;
  std::vector<KeyRange> visible;
  bool bias = false;
  float lastBias = 0;
};

int64_t keyCount(const AttentionCase& t) {
  int64_t n = 0;
  for (const KeyRange& r : t.visible) n += r.count;
  return n;
}

Doubles attentionOracle(const AttentionCase& t, const Doubles& q, const Doubles& k, const Doubles& v, const Floats& bias,
                        double scale) {
  const int64_t width = t.heads * t.headDim, keys = keyCount(t);
  std::vector<int64_t> rows;
  for (const KeyRange& r : t.visible)
    for (int64_t i = 0; i < r.count; ++i) rows.push_back(r.begin + i);
  Doubles out(static_cast<size_t>(t.queries * width)), p(static_cast<size_t>(keys));
  for (int64_t h = 0; h < t.heads; ++h) {
    for (int64_t i = 0; i < t.queries; ++i) {
      double highest = -INFINITY, sum = 0;
      for (int64_t j = 0; j < keys; ++j) {
        const double* a = &q[i * width + h * t.headDim];
        p[j] = scale * std::inner_product(a, a + t.headDim, &k[rows[j] * width + h * t.headDim], 0.0);
        if (t.bias) p[j] += bias[h * (t.queries + keys - 1) + j - i + t.queries - 1];
        if (j == keys - 1) p[j] += t.lastBias;
        highest = std::max(highest, p[j]);
      }
      for (double& x : p) sum += x = std::exp(x - highest);
      for (int64_t d = 0; d < t.headDim; ++d) {
        double acc = 0;
        for (int64_t j = 0; j < keys; ++j) acc += p[j] * v[rows[j] * width + h * t.headDim + d];
        out[i * width + h * t.headDim + d] = acc / sum;
      }
    }
  }
  return out;
}

void testAttention() {
  const std::vector<AttentionCase> cases = {
      {1, 1, 1, {{0, 1}}},
      {2, 1, 3, {{1, 5}}},
      {5, 2, 24, {{0, 7}, {9, 4}}},
      {13, 3, 64, {{0, 40}}},
      {84, 3, 64, {{168, 84}, {0, 84}, {84, 84}}},
      {100, 2, 48, {{0, 300}, {310, 7}}, false, 2.5f},
      {17, 4, 64, {{0, 17}}, true},
      {20, 2, 32, {{0, 257}}, true},
      {100, 2, 64, {{0, 40}}, true},
      {30, 1, 384, {{0, 70}}},
      {12, 2, 128, {{3, 513}, {0, 1}}, false, std::log(500.0f)},
      {7, 1, 96, {{0, 256}, {256, 0}, {300, 33}}},
  };
  for (Isa isa : levels()) {
    for (DType type : {DType::F32, DType::BF16}) {
      const bool pairs = type == DType::BF16 && isa >= Isa::Avx512Bf16;
      Worst worst;
      for (const AttentionCase& t : cases) {
        const int64_t width = t.heads * t.headDim, keys = keyCount(t);
        int64_t rows = 0;
        for (const KeyRange& r : t.visible) rows = std::max(rows, r.begin + r.count);
        const float scale = 1.0f / std::sqrt(static_cast<float>(t.headDim));
        const Floats q = randomFloats(t.queries * width, 1, 2.0f), k = randomFloats(rows * width, 2);
        const Floats v = randomFloats(rows * width, 3), bias = randomFloats(t.heads * (t.queries + keys - 1), 4);
        const std::vector<bf16> kBits = toBits(k), vBits = toBits(v);
        Doubles qd(q.begin(), q.end()), kd(k.begin(), k.end()), vd(v.begin(), v.end());
        if (pairs) std::transform(qd.begin(), qd.end(), qd.begin(), asBf16);
        if (type == DType::BF16) {
          std::transform(kd.begin(), kd.end(), kd.begin(), asBf16);
          std::transform(vd.begin(), vd.end(), vd.begin(), asBf16);
        }
        const Doubles want = attentionOracle(t, qd, kd, vd, bias, scale);
        Floats first;
        for (int threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          Context c(pool, isa);
          Floats out(q.size());
          const bool f32 = type == DType::F32;
          attention(c, {out.data(), q.data(), f32 ? static_cast<const void*>(k.data()) : kBits.data(),
                        f32 ? static_cast<const void*>(v.data()) : vBits.data(), type, t.visible, t.queries, t.heads, t.headDim,
                        scale, t.bias ? bias.data() : nullptr, t.lastBias});
          if (threads == 1) {
            first = out;
            worst.add(relativeError(out, want),
                      std::to_string(t.queries) + "x" + std::to_string(t.heads) + "x" + std::to_string(t.headDim) + ", " +
                          std::to_string(keys) + " keys");
          } else {
            CHECK(std::memcmp(first.data(), out.data(), out.size() * 4) == 0);
          }
        }
      }
      // Rounding the probabilities to bf16 is part of the pairs variant and not of the oracle: 2^-9 each.
      worst.check(std::string("attention ") + nameOf(isa) + (type == DType::F32 ? ", F32 keys" : ", BF16 keys") +
                      (pairs ? " as pairs" : ""),
                  pairs ? 4e-3 : 2e-6);
    }
  }
  ThreadPool pool(1);
  Context c(pool, Isa::Portable);
  float one = 1;
  const KeyRange none{0, 0};
  CHECK_THROWS(attention(c, {&one, &one, &one, &one, DType::F32, {&none, 1}, 1, 1, 1, 1.0f}), std::logic_error);
}

}  // namespace

TEST("cpu: attention over key ranges") { testAttention(); }

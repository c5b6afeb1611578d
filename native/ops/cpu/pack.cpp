// Packing of weight matrices: from rows in a file to the panels of gemm_kernels.h, one panel of 32 output channels to a task.
//
//   1. every row of the panel becomes words of the wanted format: as it lies in the file where that is the same, else
//      through F32 in the thread's scratch, where it is also looked over for NaN and infinity;
//   2. the 32 rows are transposed into the panel.
//
// Quantizing, where the file has not done it: scale = max |w| / 127, w8 = round(w * (127 / max |w|)), half to even, as
// src/import/quantize.ts does, to the bit.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "gemm_kernels.h"
#include "kernels.h"
#include "vector_ops.h"

namespace longlive::cpu {

namespace {

// A thread's scratch: a row as F32, and 32 rows as words.
struct PackScratch {
  float* values;
  uint32_t* words;

  static size_t size(int64_t in, int64_t words) { return static_cast<size_t>(ceilDiv(in, 16) * 16 + kPanel * words) * 4; }
  PackScratch(void* memory, const PackedLinear& w)
      : values(static_cast<float*>(memory)), words(reinterpret_cast<uint32_t*>(values + ceilDiv(w.in, 16) * 16)) {}
};

// Bytes are added four at a time in the 16-bit lanes of a word, with 128 added to each to make them unsigned.
int32_t sumOf(const int8_t* bytes, int64_t n) {
  constexpr int64_t kWords = 64;  // 64 times two bytes of at most 255 fit a lane
  constexpr uint64_t kSigns = 0x8080808080808080u, kEven = 0x00ff00ff00ff00ffu;
  int64_t sum = 0, at = 0;
  for (; at + 8 <= n;) {
    const int64_t words = std::min(kWords, (n - at) / 8);
    uint64_t lanes = 0;
    for (int64_t i = 0; i < words; ++i) {
      uint64_t w;
      std::memcpy(&w, bytes + at + 8 * i, 8);
      w ^= kSigns;
      lanes += (w & kEven) + (w >> 8 & kEven);
    }
    for (int shift = 0; shift < 64; shift += 16) sum += static_cast<int64_t>(lanes >> shift & 0xffff);
    sum -= 128 * 8 * words;
    at += 8 * words;
  }
  for (; at < n; ++at) sum += bytes[at];
  return static_cast<int32_t>(sum);
}

class PanelPacker {
 public:
  PanelPacker(const Context& c, const StoredMatrix& m, PackedLinear& w) : vector_(c.vector), isa_(c.isa), m_(m), w_(w) {}

  // False if a value is not finite.
  bool pack(int64_t panel, const PackScratch& s) const {
    const int64_t first = panel * kPanel, rows = std::min<int64_t>(kPanel, w_.out - first);
    const float* pointers[kPanel];
    for (int64_t r = 0; r < rows; ++r) {
      const uint32_t* words = inPlace(first + r);
      if (!words && !(words = converted(first + r, s.words + r * w_.words, s.values))) return false;
      pointers[r] = reinterpret_cast<const float*>(words);
    }
    // Words are moved, not calculated with: that they are called floats does not matter.
    const int64_t used = ceilDiv(w_.in, elementsPerWord(w_.format));
    vector_.packKeysF32(w_.panels.as<uint32_t>() + panel * w_.words * kPanel, pointers, rows, used, w_.words);
    return true;
  }

 private:
  // The row in the file, if it is made of words already and finite; else null.
  const uint32_t* inPlace(int64_t row) const {
    const char* data = m_.row(row);
    if (reinterpret_cast<uintptr_t>(data) % 4 != 0 || m_.in % elementsPerWord(w_.format) != 0) return nullptr;
    if (w_.format == Precision::FP32 && m_.dtype == DType::F32) {
      if (!vector_.allFinite(reinterpret_cast<const float*>(data), m_.in)) return nullptr;
    } else if (w_.format == Precision::BF16 && m_.dtype == DType::BF16) {
      if (!vector_.allFiniteBf16(reinterpret_cast<const bf16*>(data), m_.in)) return nullptr;
    } else if (w_.format == Precision::INT8 && m_.dtype == DType::I8) {
      noteStored(row, reinterpret_cast<const int8_t*>(data));
    } else {
      return nullptr;
    }
    return reinterpret_cast<const uint32_t*>(data);
  }

  // The row as words in scratch; null if a value is not finite.
  const uint32_t* converted(int64_t row, uint32_t* words, float* values) const {
    words[ceilDiv(w_.in, elementsPerWord(w_.format)) - 1] = 0;  // the last one may be used in part
    if (w_.format == Precision::INT8 && m_.dtype == DType::I8) {
      std::memcpy(words, m_.row(row), static_cast<size_t>(w_.in));
      noteStored(row, reinterpret_cast<const int8_t*>(words));
      return words;
    }
    toFloat(values, m_, row);
    if (!vector_.allFinite(values, w_.in)) return nullptr;
    if (w_.format == Precision::FP32) std::memcpy(words, values, static_cast<size_t>(w_.in) * 4);
    else if (w_.format == Precision::BF16) vector_.toBf16(reinterpret_cast<bf16*>(words), values, w_.in);
    else quantize(row, reinterpret_cast<int8_t*>(words), values);
    return words;
  }

  void quantize(int64_t row, int8_t* out, const float* values) const {
    const float highest = vector_.absMaximum(values, w_.in), inverse = 127.0f / highest;
    const bool zero = !std::isfinite(inverse);  // also where the row is too small to be divided by
    w_.scale.as<float>()[row] = zero ? 0.0f : highest / 127.0f;
    if (zero) std::memset(out, 0, static_cast<size_t>(w_.in));
    else if (isa_ > Isa::Portable) signedBytes(out, values, inverse);
    else for (int64_t k = 0; k < w_.in; ++k) out[k] = static_cast<int8_t>(std::nearbyint(static_cast<double>(values[k]) * inverse));
    addUp(row, out);
  }

  // The vector kernel rounds the exact product once, as the double above does.
  void signedBytes(int8_t* out, const float* values, float inverse) const {
    auto* bytes = reinterpret_cast<uint8_t*>(out);
    vector_.quantize(bytes, values, w_.in, inverse);
    for (int64_t k = 0; k < w_.in; ++k) bytes[k] ^= 0x80;
  }

  // What is kept of a row that the file has quantized.
  void noteStored(int64_t row, const int8_t* bytes) const {
    w_.scale.as<float>()[row] = m_.scale[static_cast<size_t>(row)];
    addUp(row, bytes);
  }

  void addUp(int64_t row, const int8_t* bytes) const {
    if (!w_.widened) w_.sum.as<int32_t>()[row] = sumOf(bytes, w_.in);
  }

  const VectorOps& vector_;
  Isa isa_;
  const StoredMatrix& m_;
  PackedLinear& w_;
};

int64_t wordsOf(int64_t in, Precision format) { return ceilDiv(ceilDiv(in, elementsPerWord(format)), 16) * 16; }

std::unique_ptr<PackedLinear> emptyPanels(const StoredMatrix& m, Precision format, bool widened) {
  auto w = std::make_unique<PackedLinear>();
  w->format = format, w->widened = widened;
  w->in = m.in, w->out = m.out;
  w->words = wordsOf(m.in, format);
  const int64_t padded = ceilDiv(m.out, kPanel) * kPanel;
  w->panels.reserveRaw(static_cast<size_t>(padded * w->words) * 4);  // packing writes every word
  w->bias.reserve(static_cast<size_t>(padded) * 4);
  if (format == Precision::INT8) w->scale.reserve(static_cast<size_t>(padded) * 4);
  if (format == Precision::INT8 && !widened) w->sum.reserve(static_cast<size_t>(padded) * 4);
  w->bytes = w->panels.bytes() + w->bias.bytes() + w->scale.bytes() + w->sum.bytes();
  return w;
}

}  // namespace

size_t linearBytes(int64_t out, int64_t in, Precision format, bool widened) {
  const int64_t words = wordsOf(in, format) + 1 + (format == Precision::INT8) + (format == Precision::INT8 && !widened);
  return static_cast<size_t>(ceilDiv(out, kPanel) * kPanel * words) * 4;
}

size_t packedLinearScratch(Isa isa, int64_t in, Precision format, bool widened) {
  const int64_t words = wordsOf(in, format);
  const Precision operand = operandOf(isa, widened ? Precision::BF16 : format);
  return std::max(PackScratch::size(in, words), linearScratch(words * (elementsPerWord(format) / elementsPerWord(operand))));
}

std::unique_ptr<PackedLinear> packLinear(Context& c, const StoredMatrix& weight, const float* bias, Precision format, bool widened) {
  if (widened && (format != Precision::INT8 || weight.dtype != DType::I8)) throw std::logic_error("packLinear: only stored bytes are widened");
  auto w = emptyPanels(weight, format, widened);
  if (bias) std::memcpy(w->bias.as<float>(), bias, static_cast<size_t>(w->out) * 4);
  const PanelPacker packer(c, weight, *w);
  std::atomic<bool> finite{true};
  c.pool.parallelFor(0, ceilDiv(w->out, kPanel), 1, [&](int64_t begin, int64_t end, int thread) {
    const PackScratch scratch(c.pool.scratch(thread), *w);
    for (int64_t panel = begin; panel < end; ++panel) {
      if (!packer.pack(panel, scratch)) finite.store(false, std::memory_order_relaxed);
    }
  }, packedLinearScratch(c.isa, w->in, format, widened));
  if (!finite) refuseNotFinite(weight);
  return w;
}

}  // namespace longlive::cpu

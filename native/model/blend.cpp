#include "blend.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace longlive {

namespace {

constexpr float kParallel = 1e-4f;  // radians
constexpr double kSame = 0.01;        // of the Euclidean distance
constexpr float kTiny = 1e-8f;      // the reference's guard against dividing by nothing

// In eight sums, as vector units add: of rows that are nearly parallel the cosine's last bit decides.
template <class F>
float sum(size_t n, F&& term) {
  float sums[8] = {};
  for (size_t i = 0; i < n; ++i) sums[i % 8] += term(i);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

float normOf(std::span<const float> row) {
  return std::sqrt(sum(row.size(), [&](size_t i) { return row[i] * row[i]; }));
}

// Of a row of zeros with anything: a right angle.
float angleBetween(std::span<const float> a, std::span<const float> b) {
  const float lengthA = normOf(a) + kTiny, lengthB = normOf(b) + kTiny;
  const float cosine = sum(a.size(), [&](size_t i) { return a[i] / lengthA * (b[i] / lengthB); });
  return std::acos(std::clamp(cosine, -1.0f, 1.0f));
}

struct Shares {
  float a, b;
};

Shares arc(float angle, float t) {
  const float sine = std::sin(angle) + kTiny;
  return {std::sin((1 - t) * angle) / sine, std::sin(t * angle) / sine};
}

}  // namespace

bool areSame(const Prompt& a, const Prompt& b) {
  double squares = 0;
  const auto at = [](const Prompt& p, size_t i) { return i < p.embeddings.size() ? p.embeddings[i] : 0.0f; };
  for (size_t i = 0; i < std::max(a.embeddings.size(), b.embeddings.size()); ++i) {
    const double d = at(b, i) - at(a, i);
    squares += d * d;
  }
  return squares < kSame * kSame;
}

Prompt blend(const Prompt& from, const Prompt& to, double share, BlendKind kind, int64_t textLen, int64_t textDim) {
  Prompt out;
  out.tokens = std::max(from.tokens, to.tokens);
  const auto rows = static_cast<size_t>(std::min(out.tokens + 1, textLen)), width = static_cast<size_t>(textDim);
  const auto padded = [&](const Prompt& prompt) {
    std::vector<float> values = prompt.embeddings;
    values.resize(rows * width, 0.0f);
    return values;
  };
  const std::vector<float> a = padded(from), b = padded(to);
  const auto row = [&](const std::vector<float>& values, size_t r) { return std::span(values).subspan(r * width, width); };
  const auto t = static_cast<float>(share);

  std::vector<Shares> shares(rows, {1 - t, t});
  if (kind == BlendKind::Slerp) {
    std::vector<float> angles;
    for (size_t r = 0; r < rows; ++r) angles.push_back(angleBetween(row(a, r), row(b, r)));
    if (*std::max_element(angles.begin(), angles.end()) >= kParallel) {
      for (size_t r = 0; r < rows; ++r) shares[r] = arc(angles[r], t);
    }
  }
  out.embeddings.resize(rows * width);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = r * width; i < (r + 1) * width; ++i) out.embeddings[i] = shares[r].a * a[i] + shares[r].b * b[i];
  }
  return out;
}

}  // namespace longlive

// Norms and rotation on the CPU.
#include "kernel_oracles.h"

using namespace longlive;
using namespace longlive::cpu;

namespace {

void testNorms() {
  constexpr float eps = 1e-6f;
  for (Isa isa : levels()) {
    if (!hasOwnVectorOps(isa)) continue;
    ThreadPool pool(2);
    Context c(pool, isa);
    Worst layer, rms, rotated;
    for (const auto& [frames, perFrame, width] : std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {3, 2, 7}, {3, 84, 192}, {2, 5, 1536}}) {
      const int64_t rows = frames * perFrame;
      const std::string where = std::to_string(rows) + "x" + std::to_string(width);
      Floats x = randomFloats(rows * width, 1, 3.0f);
      for (float& value : x) value += 5.0f;  // a mean to take away
      const Floats scale = randomFloats(frames * width, 2), shift = randomFloats(frames * width, 3);
      Doubles modulated(x.size()), affine(x.size()), normal(x.size());
      for (int64_t r = 0; r < rows; ++r) {
        double mean = 0, variance = 0, square = 0;
        for (int64_t j = 0; j < width; ++j) mean += x[r * width + j];
        mean /= width;
        for (int64_t j = 0; j < width; ++j) {
          variance += (x[r * width + j] - mean) * (x[r * width + j] - mean);
          square += static_cast<double>(x[r * width + j]) * x[r * width + j];
        }
        for (int64_t j = 0; j < width; ++j) {
          const size_t i = static_cast<size_t>(r * width + j), f = static_cast<size_t>(r / perFrame * width + j);
          const double n = (x[i] - mean) / std::sqrt(variance / width + eps);
          modulated[i] = n * (1.0 + scale[f]) + shift[f];
          affine[i] = n * scale[j] + shift[j];
          normal[i] = x[i] / std::sqrt(square / width + eps) * scale[j];
        }
      }
      Floats out(x.size());
      layerNormModulate(c, out.data(), x.data(), rows, width, scale.data(), shift.data(), frames, eps);
      layer.add(relativeError(out, modulated), where);
      out = x;
      layerNormAffine(c, out.data(), out.data(), rows, width, scale.data(), shift.data(), eps);
      layer.add(relativeError(out, affine), where);
      out = x;
      rmsNorm(c, out.data(), DType::F32, out.data(), rows, width, scale.data(), eps);
      rms.add(relativeError(out, normal), where);
    }
    for (const auto& [heads, t, h, w] : std::vector<std::array<int64_t, 4>>{{1, 1, 0, 0}, {2, 4, 4, 4}, {3, 12, 10, 10}, {12, 22, 21, 21}}) {
      const int64_t gridHeight = 3, gridWidth = 5, pairs = t + h + w, width = heads * pairs * 2;
      const std::vector<int32_t> position = {7, 2};
      const int64_t rows = 2 * gridHeight * gridWidth;
      const std::string where = std::to_string(heads) + " heads of " + std::to_string(2 * pairs);
      const auto table = [](int64_t positions, int64_t count, double base) {
        Floats cs;
        for (int64_t p = 0; p < positions; ++p)
          for (int64_t i = 0; i < count; ++i) {
            const double angle = static_cast<double>(p) * std::pow(base, -static_cast<double>(i) / static_cast<double>(count));
            cs.push_back(static_cast<float>(std::cos(angle)));
            cs.push_back(static_cast<float>(std::sin(angle)));
          }
        return cs;
      };
      const Floats temporal = table(8, t, 1e4), row = table(gridHeight, h, 1e3), column = table(gridWidth, w, 1e2);
      const RopeShape shape{temporal.data(), row.data(), column.data(), t, h, w, gridHeight, gridWidth, heads, position};
      const Floats x = randomFloats(rows * width, 1), weight = randomFloats(width, 2);
      Doubles plain(x.size()), normalised(x.size());
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t col = r % gridWidth, line = r / gridWidth % gridHeight, frame = r / (gridWidth * gridHeight);
        double square = 0;
        for (int64_t j = 0; j < width; ++j) square += static_cast<double>(x[r * width + j]) * x[r * width + j];
        const double inverse = 1 / std::sqrt(square / static_cast<double>(width) + eps);
        for (int64_t j = 0; j < width; j += 2) {
          const int64_t pair = j / 2 % pairs;
          const float* cs = pair < t       ? &temporal[(position[frame] * t + pair) * 2]
                            : pair < t + h ? &row[(line * h + pair - t) * 2]
                                           : &column[(col * w + pair - t - h) * 2];
          const size_t i = static_cast<size_t>(r * width + j);
          const double re = x[i], im = x[i + 1], nre = re * inverse * weight[j], nim = im * inverse * weight[j + 1];
          plain[i] = re * cs[0] - im * cs[1];
          plain[i + 1] = re * cs[1] + im * cs[0];
          normalised[i] = nre * cs[0] - nim * cs[1];
          normalised[i + 1] = nre * cs[1] + nim * cs[0];
        }
      }
      Floats out = x;
      rope(c, out.data(), DType::F32, out.data(), DType::F32, rows, width, shape);
      rotated.add(relativeError(out, plain), where);
      out = x;
      rmsNormRope(c, out.data(), DType::F32, out.data(), rows, width, weight.data(), eps, shape);
      rotated.add(relativeError(out, normalised), where);
      std::vector<bf16> bits(x.size());
      rmsNormRope(c, bits.data(), DType::BF16, x.data(), rows, width, weight.data(), eps, shape);
      CHECK(bits == toBits(out));
      rmsNorm(c, out.data(), DType::F32, x.data(), rows, width, weight.data(), eps);
      rmsNorm(c, bits.data(), DType::BF16, x.data(), rows, width, weight.data(), eps);
      CHECK(bits == toBits(out));
      std::vector<bf16> in = toBits(x), same(in.size());
      rope(c, same.data(), DType::BF16, in.data(), DType::BF16, rows, width, shape);
      std::transform(in.begin(), in.end(), out.begin(), fromBits);
      rope(c, out.data(), DType::F32, out.data(), DType::F32, rows, width, shape);
      CHECK(same == toBits(out));
      CHECK_THROWS(rope(c, out.data(), DType::F32, x.data(), DType::F32, rows + 1, width, shape), std::logic_error);
    }
    layer.check(std::string("layerNorm ") + nameOf(isa), 1e-6);
    rms.check(std::string("rmsNorm ") + nameOf(isa), 1e-6);
    rotated.check(std::string("rotation ") + nameOf(isa), 1e-6);
  }
}

}  // namespace

TEST("cpu: norms and rotation") { testNorms(); }

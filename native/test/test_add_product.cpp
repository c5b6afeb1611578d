// Merging of adapters (longlive/weights.h): every instruction set this machine has, odd sizes, one to three threads.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "harness.h"
#include "longlive/error.h"
#include "longlive/weights.h"
#include "ops/cpu/add_product.h"

using namespace longlive;
using namespace longlive::cpu;

namespace {

struct Sizes {
  int64_t rows, columns, rank;
};

struct Operands {
  std::vector<float> values, a;
  std::vector<double> b;
};

Operands randomOperands(const Sizes& s) {
  std::mt19937 generator(static_cast<uint32_t>(s.rows * 31 + s.columns * 7 + s.rank));
  std::normal_distribution<float> normal;
  Operands o;
  for (int64_t i = 0; i < s.rows * s.columns; ++i) o.values.push_back(normal(generator));
  for (int64_t i = 0; i < s.rank * s.columns; ++i) o.a.push_back(normal(generator));
  for (int64_t i = 0; i < s.rows * s.rank; ++i) o.b.push_back(static_cast<double>(normal(generator)) / 3);
  return o;
}

// In extended precision: the exact value, as far as a float can tell.
float expected(const Operands& o, const Sizes& s, int64_t row, int64_t column) {
  long double sum = o.values[static_cast<size_t>(row * s.columns + column)];
  for (int64_t r = 0; r < s.rank; ++r) {
    sum += static_cast<long double>(o.b[static_cast<size_t>(row * s.rank + r)]) * o.a[static_cast<size_t>(r * s.columns + column)];
  }
  return static_cast<float>(sum);
}

}  // namespace

TEST("an added product is summed in double and rounded once, on every instruction set and any number of threads") {
  for (const Sizes s : {Sizes{1, 1, 1}, Sizes{3, 5, 2}, Sizes{4, 32, 8}, Sizes{7, 33, 17}, Sizes{65, 130, 64}}) {
    for (int level = 0; level <= static_cast<int>(detectIsa()); ++level) {
      std::vector<float> first;
      for (int threads : {1, 2, 3}) {
        Operands o = randomOperands(s);
        const Operands before = o;
        ThreadPool pool(threads);
        addProduct(pool, static_cast<Isa>(level), {o.values.data(), o.b.data(), o.a.data(), s.rows, s.columns, s.rank});
        if (first.empty()) first = o.values;
        CHECK(std::memcmp(first.data(), o.values.data(), first.size() * 4) == 0);
        for (int64_t row = 0; row < s.rows; ++row) {
          for (int64_t column = 0; column < s.columns; ++column) {
            const float got = o.values[static_cast<size_t>(row * s.columns + column)], want = expected(before, s, row, column);
            // At most the neighbouring float, where the sum lies between two.
            CHECK(got == want || std::nextafter(got, want) == want);
          }
        }
      }
    }
  }
}

TEST("operands of an added product have to fit") {
  std::vector<float> values(6), a(4);
  std::vector<double> b(6);
  addProduct(values, b, a, 2);
  CHECK_THROWS(addProduct(values, b, a, 0), Error);
  CHECK_THROWS(addProduct(values, b, a, 3), Error);
  values.resize(5);
  CHECK_THROWS(addProduct(values, b, a, 2), Error);
}

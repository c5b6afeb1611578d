// Mutational fuzzing of the safetensors reader, with fixed seeds and a bounded number of runs, under AddressSanitizer:
//   fuzz_safetensors [iterations]
// A mutant must either be refused with Error{InvalidPackage} or read completely without touching a byte outside the file.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "longlive/error.h"

using namespace longlive;

namespace {

std::vector<std::vector<uint8_t>> corpus() {
  std::vector<float> values(64, 1.5f);
  std::vector<uint8_t> bytes(64, 7);
  const std::vector<SafeTensors::Entry> many = {{"a", {values.data(), DType::F32, {4, 4}}},
                                                {"b.weight", {bytes.data(), DType::BF16, {2, 3, 5}}},
                                                {"c\"\\\xc3\xa9", {bytes.data(), DType::U8, {1, 1, 1, 1, 1, 9}}},
                                                {"scalar", {values.data(), DType::F64, {}}},
                                                {"empty", {nullptr, DType::I64, {3, 0}}},
                                                {"half", {bytes.data(), DType::F16, {31}}}};
  return {writeSafeTensors(many, {{"format", "pt"}, {"k", "v"}}), writeSafeTensors({}, {}),
          writeSafeTensors({many.data(), 1}, {})};
}

using Random = std::mt19937_64;

void mutate(std::vector<uint8_t>& file, Random& random) {
  static const char* const pieces[] = {"{", "}", "[", "]", "\"", ",", ":", "-1", "0", "1e308", "18446744073709551616", "9007199254740993",
                                       "\\u0000", "\\ud83d", "data_offsets", "dtype", "shape", "__metadata__", "null", "F32", "[0,0]", "[[[[[[["};
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % (n ? n : 1)); };
  switch (random() % 7) {
    case 0: if (!file.empty()) file[below(file.size())] = static_cast<uint8_t>(random()); break;
    case 1: if (!file.empty()) file[below(file.size())] ^= static_cast<uint8_t>(1u << (random() % 8)); break;
    case 2: file.resize(below(file.size() + 1)); break;
    case 3: file.insert(file.end(), below(32), static_cast<uint8_t>(random())); break;
    case 4: {  // the header's length
      if (file.size() < 8) break;
      uint64_t n = random() % 3 == 0 ? random() : random() % (2 * file.size());
      std::memcpy(file.data(), &n, 8);
      break;
    }
    case 5: {  // a piece of JSON over the header
      const char* piece = pieces[below(std::size(pieces))];
      const size_t at = 8 + below(file.size());
      if (at + std::strlen(piece) <= file.size()) std::memcpy(file.data() + at, piece, std::strlen(piece));
      break;
    }
    default: {  // the same inserted, with the length following
      if (file.size() < 8) break;
      uint64_t n;
      std::memcpy(&n, file.data(), 8);
      const std::string piece = pieces[below(std::size(pieces))];
      const size_t at = 8 + below(static_cast<size_t>(std::min<uint64_t>(n, file.size() - 8)) + 1);
      file.insert(file.begin() + static_cast<int64_t>(at), piece.begin(), piece.end());
      n += piece.size();
      std::memcpy(file.data(), &n, 8);
    }
  }
}

// Reads every byte of every tensor; true if the file was accepted.
bool readAll(const std::vector<uint8_t>& file) {
  // An exact copy on the heap, so that the sanitizer sees one byte too far.
  const std::vector<uint8_t> exact(file);
  try {
    const SafeTensors t = SafeTensors::parse(exact, "fuzz");
    uint64_t sum = 0;
    for (const auto& e : t.entries()) {
      for (size_t i = 0; i < e.tensor.bytes(); ++i) sum += static_cast<const uint8_t*>(e.tensor.data)[i];
      std::vector<float> values(static_cast<size_t>(e.tensor.elements()));
      try {
        toFloat(e.tensor, values.data(), e.name);
      } catch (const Error&) {
      }
    }
    return sum + 1 != 0;
  } catch (const Error& e) {
    if (e.code() != ErrorCode::InvalidPackage || !*e.what()) std::abort();
    return false;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t iterations = argc > 1 ? std::atoll(argv[1]) : 30000;
  const auto seeds = corpus();
  int64_t accepted = 0;
  for (int64_t i = 0; i < iterations; ++i) {
    Random random(static_cast<uint64_t>(i));
    std::vector<uint8_t> file = seeds[static_cast<size_t>(i) % seeds.size()];
    const uint64_t count = 1 + random() % 4;
    for (uint64_t m = 0; m < count; ++m) mutate(file, random);
    accepted += readAll(file);
  }
  for (const auto& file : seeds) {
    if (!readAll(file)) return std::fprintf(stderr, "a valid file was refused\n"), 1;
  }
  std::printf("fuzz_safetensors: %lld files, %lld accepted, no fault\n", static_cast<long long>(iterations), static_cast<long long>(accepted));
  return 0;
}

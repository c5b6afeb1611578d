// Compares the core with a folder of golden data:
//   parity DIR [--device cpu|cuda] [--precision fp32|bf16|int8|fp8] [--attention full|int8] [--isa NAME] [--threads N] [--only NAME] [--verbose] [--spoil SHARE]
// Prints one line per case, the worst max|a-b| / max|b| over its tensors and PASS or FAIL (limits: parity_limits.h); exits with 1 if a case fails, or if there is none.
// --spoil makes matrices wrong by that share on purpose, for a look at whether that fails.
#include "parity.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "longlive/error.h"
#include "longlive/names.h"
#include "parity_limits.h"

namespace longlive::parity {

namespace {

using Runner = void (*)(const Case&, Backend&, Report&);

const std::map<std::string, Runner>& runners() {
  static const std::map<std::string, Runner> all = {
      {"units", runUnits},         {"umt5", runUmt5},           {"dit_block", runDitBlock}, {"lora_merge", runLora},
      {"pipeline", runPipeline},   {"vae_decode", runVaeDecode}, {"vae_encode", runVaeEncode}, {"taehv", runTaehvDecode},
      {"taehv_decode", runTaehvDecode}, {"blend_units", runBlend}};
  return all;
}

struct Options {
  std::string directory, only;
  BackendOptions backend;
  double spoilt = 0;
  bool cuda = false;
  bool verbose = false;
};

int usage() {
  std::fprintf(stderr, "usage: parity DIR [--device cpu|cuda] [--precision fp32|bf16|int8|fp8] [--attention full|int8] [--isa NAME] [--threads N] [--only NAME] [--verbose] [--spoil SHARE]\n");
  return 2;
}

bool parse(int argc, char** argv, Options& o) {
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string(); };
    if (arg == "--precision") {
      const auto precision = precisionNamed(value());
      if (!precision) return false;
      o.backend.precision = *precision;
    } else if (arg == "--attention") {
      const auto attention = attentionNamed(value());
      if (!attention) return false;
      o.backend.attention = *attention;
    } else if (arg == "--device") {
      const std::string d = value();
      if (d != "cpu" && d != "cuda") return false;
      o.cuda = d == "cuda";
    } else if (arg == "--isa") {
      o.backend.isa = value();
    } else if (arg == "--threads") {
      o.backend.threads = std::atoi(value().c_str());
    } else if (arg == "--only") {
      o.only = value();
    } else if (arg == "--spoil") {
      o.spoilt = std::atof(value().c_str());
    } else if (arg == "--verbose") {
      o.verbose = true;
    } else if (o.directory.empty() && arg.rfind("--", 0) != 0) {
      o.directory = arg;
    } else {
      return false;
    }
  }
  return !o.directory.empty();
}

std::string readFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// Every other row of every matrix so much larger, and the ones between smaller.
std::vector<uint8_t> spoilt(const SafeTensors& weights, double share) {
  std::vector<std::vector<float>> values;
  std::vector<SafeTensors::Entry> entries;
  for (const auto& e : weights.entries()) {
    entries.push_back(e);
    if (e.tensor.dtype != DType::F32 || e.tensor.shape.rank != 2 || !e.name.starts_with("weights.")) continue;
    std::vector<float>& rows = values.emplace_back(readTensor(weights, e.name));
    for (size_t i = 0; i < rows.size(); ++i) rows[i] *= static_cast<float>(1 + (i / static_cast<size_t>(e.tensor.shape[1]) % 2 ? share : -share));
    entries.back().tensor.data = rows.data();
  }
  return writeSafeTensors(entries, {});
}

enum class Outcome : uint8_t { Passed, Failed, Skipped };

Outcome runCase(const std::filesystem::path& path, const Options& o, Backend& backend) {
  Case c;
  c.name = path.stem().string();
  c.directory = path.parent_path().string();
  Report report;
  std::vector<uint8_t> wrong;
  std::string failure;
  try {
    c.json = Json::parse(readFile(path));
    const Json* kind = c.json.type() == Json::Type::Object ? c.json.find("kind") : nullptr;
    const auto runner = kind && kind->type() == Json::Type::String ? runners().find(kind->string()) : runners().end();
    if (runner == runners().end()) {
      std::printf("%-28s skipped (%s)\n", c.name.c_str(), kind ? ("kind " + kind->string()).c_str() : "not a case");
      return Outcome::Skipped;
    }
    c.tensors = SafeTensors::open((path.parent_path() / (c.name + ".safetensors")).string());
    const Json* weights = c.json.find("weights_file");
    c.weights = weights && !weights->isNull() ? SafeTensors::open((path.parent_path() / weights->string()).string()) : c.tensors;
    if (o.spoilt > 0) {
      wrong = spoilt(c.weights, o.spoilt);
      c.weights = SafeTensors::parse(wrong, "spoilt weights");
    }
    runner->second(c, backend, report);
  } catch (const std::exception& e) {
    failure = e.what();
  }
  const double limit = limitFor(backend.precision(), o.backend.attention);
  const bool pass = failure.empty() && report.compared > 0 && report.worst <= limit && report.integerMismatches.empty();
  std::printf("%-28s %9.2e  %-4s  %4lld tensors, worst %s\n", c.name.c_str(), report.worst, pass ? "PASS" : "FAIL",
              static_cast<long long>(report.compared), report.worstTensor.c_str());
  if (!failure.empty()) std::printf("    error: %s\n", failure.c_str());
  for (size_t i = 0; i < report.integerMismatches.size() && (i < 5 || o.verbose); ++i) {
    std::printf("    differs: %s\n", report.integerMismatches[i].c_str());
  }
  for (const std::string& n : report.notes) std::printf("    note: %s\n", n.c_str());
  return pass ? Outcome::Passed : Outcome::Failed;
}

int main(int argc, char** argv) {
  Options o;
  if (!parse(argc, argv, o)) return usage();
  try {
    const auto backend = o.cuda ? makeCudaBackend(o.backend) : makeCpuBackend(o.backend);
    const DeviceInfo info = backend->info();
    std::printf("%s, %s, %d threads\n", info.name.c_str(), info.isa.c_str(), info.threads);
    std::vector<std::filesystem::path> cases;
    for (const auto& entry : std::filesystem::directory_iterator(o.directory)) {
      if (entry.is_directory()) {
        std::printf("%-28s skipped (a folder)\n", entry.path().filename().c_str());
      } else if (entry.path().extension() == ".json" && (o.only.empty() || entry.path().stem() == o.only)) {
        cases.push_back(entry.path());
      }
    }
    std::sort(cases.begin(), cases.end());
    size_t failed = 0, skipped = 0;
    for (const auto& path : cases) {
      const Outcome outcome = runCase(path, o, *backend);
      failed += outcome == Outcome::Failed, skipped += outcome == Outcome::Skipped;
    }
    if (skipped == cases.size()) std::fprintf(stderr, "no case found in %s\n", o.directory.c_str());
    if (failed) std::printf("%zu of %zu files failed\n", failed, cases.size());
    return failed || skipped == cases.size() ? 1 : 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}

}  // namespace

}  // namespace longlive::parity

int main(int argc, char** argv) { return longlive::parity::main(argc, argv); }

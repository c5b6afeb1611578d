#include "cpu_features.h"

#include <fstream>

#include "longlive/error.h"

namespace longlive::cpu {

namespace {

std::string modelName() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "CPU";
}

CpuFeatures detect() {
  CpuFeatures f;
  f.name = modelName();
#if defined(__x86_64__)
  __builtin_cpu_init();
  f.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  f.avx512 = f.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  f.avx512bf16 = f.avx512 && __builtin_cpu_supports("avx512bf16");
  f.avx512vnni = f.avx512 && __builtin_cpu_supports("avx512vnni");
#endif
  return f;
}

}  // namespace

const CpuFeatures& cpuFeatures() {
  static const CpuFeatures features = detect();
  return features;
}

Isa chooseIsa(const std::string& name) {
  const CpuFeatures& f = cpuFeatures();
  if (name.empty()) return f.avx512 ? Isa::Avx512 : f.avx2 ? Isa::Avx2 : Isa::Portable;
  if (name == "portable") return Isa::Portable;
  if (name == "avx2" && f.avx2) return Isa::Avx2;
  if (name == "avx512" && f.avx512) return Isa::Avx512;
  if (name == "avx2" || name == "avx512") throw Error(ErrorCode::Unavailable, "this processor has no " + name);
  throw Error(ErrorCode::InvalidArgument, "unknown isa \"" + name + "\": expected portable, avx2 or avx512");
}

std::string describeIsa(Isa isa) {
  const CpuFeatures& f = cpuFeatures();
  if (isa == Isa::Portable) return "portable";
  if (isa == Isa::Avx2) return "avx2";
  return std::string("avx512") + (f.avx512bf16 ? "+bf16" : "") + (f.avx512vnni ? "+vnni" : "") + (f.amx ? "+amx" : "");
}

}  // namespace longlive::cpu

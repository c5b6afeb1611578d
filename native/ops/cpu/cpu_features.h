// Which instruction sets this machine has, asked once at run time.
#pragma once

#include <string>

namespace longlive::cpu {

// Each level includes the ones before it.
enum class Isa { Portable, Avx2, Avx512 };

struct CpuFeatures {
  bool avx2 = false, avx512 = false, avx512bf16 = false, avx512vnni = false, amx = false;
  std::string name;  // the processor's model name
};

const CpuFeatures& cpuFeatures();

// "" picks the best available; a name that this machine cannot run throws Error{Unavailable}, an unknown name
// Error{InvalidArgument}.
Isa chooseIsa(const std::string& name);

// E.g. "avx512+bf16+vnni".
std::string describeIsa(Isa isa);

}  // namespace longlive::cpu

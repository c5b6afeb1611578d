// What the processor can do, and which level of it to use.
//
// A level includes all lower ones of its architecture. The order is the one in which processors gained the instructions, so a cap by name
// describes a real generation: avx2 (Haswell, Zen), avx512 (Skylake-X), avx512vnni (Cascade Lake), avx512bf16 (Cooper Lake,
// Zen 4), amx (Sapphire Rapids). On ARM: neon (every 64-bit processor), neondot (SDOT: Apple M1, Graviton 2).
#pragma once

#include <cstdint>
#include <string>

namespace longlive::cpu {

enum class Isa : uint8_t { Portable, Neon, NeonDot, Avx2, Avx512, Avx512Vnni, Avx512Bf16, Amx };

// Of this architecture, lowest first.
#if defined(__x86_64__)
constexpr Isa kLevels[] = {Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Vnni, Isa::Avx512Bf16, Isa::Amx};
#elif defined(__aarch64__)
constexpr Isa kLevels[] = {Isa::Portable, Isa::Neon, Isa::NeonDot};
#else
constexpr Isa kLevels[] = {Isa::Portable};
#endif

// The next lower level of this architecture; the lowest one itself.
constexpr Isa below(Isa isa) {
  Isa lower = kLevels[0];
  for (Isa level : kLevels)
    if (level < isa) lower = level;
  return lower;
}

constexpr const char* nameOf(Isa isa) {
  switch (isa) {
    case Isa::Portable: return "portable";
    case Isa::Neon: return "neon";
    case Isa::NeonDot: return "neondot";
    case Isa::Avx2: return "avx2";
    case Isa::Avx512: return "avx512";
    case Isa::Avx512Vnni: return "avx512vnni";
    case Isa::Avx512Bf16: return "avx512bf16";
    case Isa::Amx: return "amx";
  }
  return "?";
}

// The best level of this processor and operating system. The first call asks Linux for the permission to use AMX tiles
// (they enlarge the state saved at every context switch, so the kernel grants them per process); later calls are free.
Isa detectIsa();

// The level that calculates fastest here: the best one, but for Intel's processors that have VDPBF16PS and no tiles (virtual machines
// often hide them). There it is issued once in two cycles, F32 multiply-adds twice in one: half as many products for a sum of two.
Isa fastestIsa();

// fastestIsa() for an empty name, else the level of that name. Throws Error{InvalidArgument} for an unknown name and
// Error{Unavailable} for a level that this machine lacks.
Isa chooseIsa(const std::string& name);

// "AMD EPYC 9575F": the brand string, or "unknown".
std::string processorName();

}  // namespace longlive::cpu

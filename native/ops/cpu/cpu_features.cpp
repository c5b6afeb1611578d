#include "cpu_features.h"

#include <cstring>
#include <iterator>

#include "../../include/longlive/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace longlive::cpu {
namespace {

#if defined(__x86_64__)

struct Registers { uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0; };

Registers cpuid(uint32_t leaf, uint32_t sub = 0) {
  Registers r;
  if (!__get_cpuid_count(leaf, sub, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

bool bit(uint32_t word, int index) { return word >> index & 1; }

// XCR0: which register files the operating system saves and restores.
uint64_t savedState() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

bool tilePermission() {
#if defined(__linux__)
  constexpr int kArchReqXcompPerm = 0x1023, kXfeatureTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
#else
  return false;
#endif
}

Isa probe() {
  const Registers one = cpuid(1), seven = cpuid(7), sevenOne = cpuid(7, 1);
  const bool osxsave = bit(one.ecx, 27);
  const uint64_t state = osxsave ? savedState() : 0;
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;

  const bool fma = bit(one.ecx, 12), f16c = bit(one.ecx, 29), avx2 = bit(seven.ebx, 5);
  if (!ymm || !fma || !f16c || !avx2) return Isa::Portable;
  const bool avx512 = bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 28) && bit(seven.ebx, 30) &&
                      bit(seven.ebx, 31);  // F, DQ, CD, BW, VL
  if (!zmm || !avx512) return Isa::Avx2;
  if (!bit(seven.ecx, 11)) return Isa::Avx512;
  if (!bit(sevenOne.eax, 5)) return Isa::Avx512Vnni;
  const bool amx = bit(seven.edx, 22) && bit(seven.edx, 24) && bit(seven.edx, 25);  // BF16, TILE, INT8
  return tiles && amx && tilePermission() ? Isa::Amx : Isa::Avx512Bf16;
}

bool isIntel() {
  const Registers vendor = cpuid(0);
  return vendor.ebx == signature_INTEL_ebx && vendor.ecx == signature_INTEL_ecx && vendor.edx == signature_INTEL_edx;
}

#elif defined(__aarch64__)

bool hasDotProduct() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#elif defined(__APPLE__)
  int has = 0;
  size_t size = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has == 1;
#else
  return false;
#endif
}

Isa probe() { return hasDotProduct() ? Isa::NeonDot : Isa::Neon; }
bool isIntel() { return false; }

#else

Isa probe() { return Isa::Portable; }
bool isIntel() { return false; }

#endif

}  // namespace

Isa detectIsa() {
  static const Isa isa = probe();
  return isa;
}

Isa fastestIsa() {
  const Isa best = detectIsa();
  return best == Isa::Avx512Bf16 && isIntel() ? Isa::Avx512Vnni : best;
}

Isa chooseIsa(const std::string& name) {
  if (name.empty()) return fastestIsa();
  const Isa best = detectIsa();
  for (Isa isa : kLevels)
    if (name == nameOf(isa) && isa <= best) return isa;
  for (int known = 0; known <= static_cast<int>(Isa::Amx); ++known) {
    if (name != nameOf(static_cast<Isa>(known))) continue;
    throw Error(ErrorCode::Unavailable, "this processor does not support " + name + "; the best it supports is " + nameOf(best));
  }
  std::string names;
  for (Isa isa : kLevels) names += names.empty() ? nameOf(isa) : std::string(isa == kLevels[std::size(kLevels) - 1] ? " or " : ", ") + nameOf(isa);
  throw Error(ErrorCode::InvalidArgument, "unknown isa '" + name + "'; use " + names);
}

std::string processorName() {
#if defined(__x86_64__)
  if (cpuid(0x80000000).eax >= 0x80000004) {
    char text[49] = {};
    for (uint32_t i = 0; i < 3; ++i) {
      const Registers r = cpuid(0x80000002 + i);
      std::memcpy(text + 16 * i, &r, 16);
    }
    std::string name = text;
    const auto first = name.find_first_not_of(' '), last = name.find_last_not_of(' ');
    if (first != std::string::npos) return name.substr(first, last - first + 1);
  }
#elif defined(__APPLE__)
  char text[128] = {};
  size_t size = sizeof text - 1;
  if (sysctlbyname("machdep.cpu.brand_string", text, &size, nullptr, 0) == 0 && text[0]) return text;
#endif
  return "unknown";
}

}  // namespace longlive::cpu

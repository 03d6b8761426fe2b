// Which tables this processor and its operating system can run. On x86 read from cpuid and xgetbv
// directly: the compilers' own query does not know all names on clang 14.
#include <array>
#include <cstdint>

#include "kernels/isa_tables.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace fewbits {

#if defined(__x86_64__)

namespace {

struct CpuFeatures {
  bool avx2 = false;     ///< with FMA and F16C
  bool avxvnni = false;  ///< and AVX2
  bool avx512 = false;   ///< F, BW, VL, DQ and VNNI
  bool amx = false;      ///< with bfloats and int8, and AVX-512's BF16
};

struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t part) {
  Registers r;
  __get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d);
  return r;
}

/// Which register files the operating system saves (XCR0). REQUIRES: OSXSAVE.
uint32_t saved_state() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

/// Asks Linux for the eight kilobytes of tiles, which threads get on request only. Refused by old
/// kernels, sandboxes and where a signal stack is too small.
bool tiles_are_granted() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // asm/prctl.h: ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

bool all(uint32_t word, uint32_t bits) {
  return (word & bits) == bits;
}
constexpr uint32_t bit(int index) {
  return 1u << index;
}

// Bit numbers: Intel Software Developer's Manual, volume 2, CPUID.
CpuFeatures cpu_features() {
  constexpr uint32_t kFma = bit(12), kOsxsave = bit(27), kAvx = bit(28),
                     kF16c = bit(29);  // leaf 1, ecx
  constexpr uint32_t kAvx2 = bit(5), kF = bit(16), kDq = bit(17), kBw = bit(30),
                     kVl = bit(31);                                               // leaf 7, ebx
  constexpr uint32_t kVnni = bit(11);                                             // leaf 7, ecx
  constexpr uint32_t kAmxBf16 = bit(22), kAmxTile = bit(24), kAmxInt8 = bit(25);  // leaf 7, edx
  constexpr uint32_t kAvxVnni = bit(4), kAvx512Bf16 = bit(5);  // leaf 7 part 1, eax
  constexpr uint32_t kTileState = bit(17) | bit(18);
  constexpr uint32_t kYmmState = bit(1) | bit(2);
  constexpr uint32_t kZmmState = kYmmState | bit(5) | bit(6) | bit(7);

  CpuFeatures features;
  const Registers one = cpuid(1, 0);
  if (!all(one.c, kFma | kOsxsave | kAvx | kF16c)) return features;
  const uint32_t state = saved_state();
  const Registers seven = cpuid(7, 0), more = cpuid(7, 1);
  features.avx2 = all(state, kYmmState) && all(seven.b, kAvx2);
  features.avxvnni = features.avx2 && all(more.a, kAvxVnni);
  features.avx512 = features.avx2 && all(state, kZmmState) && all(seven.b, kF | kDq | kBw | kVl) &&
                    all(seven.c, kVnni);
  features.amx = features.avx512 && all(state, kTileState) &&
                 all(seven.d, kAmxBf16 | kAmxTile | kAmxInt8) && all(more.a, kAvx512Bf16) &&
                 tiles_are_granted();
  return features;
}

void attend_with_tiles(const AttentionTask& task) {
  AttentionTask with_tiles = task;
  with_tiles.tiles = &kAmxTable;
  kAvx512Table.attend(with_tiles);
}

/// Tiles are a unit beside AVX-512, not another set of everything.
KernelTable amx_table() {
  KernelTable table = kAvx512Table;
  table.name = "amx";
  table.attend = attend_with_tiles;
  table.tiles = &kAmxTable;
  return table;
}

}  // namespace

KernelCandidates kernel_candidates() {
  static const CpuFeatures cpu = cpu_features();
  static const KernelTable amx = amx_table();
  static const std::array<KernelCandidate, 5> best_first = {{
      {&amx, cpu.amx},
      {&kAvx512Table, cpu.avx512},
      {&kAvxVnniTable, cpu.avxvnni},
      {&kAvx2Table, cpu.avx2},
      {&kScalarTable, true},
  }};
  return {best_first.data(), static_cast<int>(best_first.size())};
}

#elif defined(__aarch64__)

KernelCandidates kernel_candidates() {
  static const bool dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  static const bool i8mm = dotprod && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
  static const std::array<KernelCandidate, 3> best_first = {{
      {&kI8mmTable, i8mm},
      {&kDotprodTable, dotprod},
      {&kScalarTable, true},
  }};
  return {best_first.data(), static_cast<int>(best_first.size())};
}

#else

KernelCandidates kernel_candidates() {
  static const KernelCandidate only = {&kScalarTable, true};
  return {&only, 1};
}

#endif

}  // namespace fewbits

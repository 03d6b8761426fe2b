#pragma once

// What this processor and its operating system can run. Read from cpuid and xgetbv directly: the
// compilers' own query does not know all names on clang 14.
namespace fewbits {

struct CpuFeatures {
  bool avx2 = false;    ///< with FMA and F16C
  bool avx512 = false;  ///< F, BW, VL, DQ and VNNI
};

CpuFeatures cpu_features();

}  // namespace fewbits

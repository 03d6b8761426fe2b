#include "base/memory.h"

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

namespace fewbits {
namespace {

constexpr int64_t kKibibyte = 1024;  // the unit of /proc
constexpr int64_t kUnknown = -1;

/// "VmHWM:   1234 kB" in bytes.
int64_t line_of(const char* file, std::string_view key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key)) return std::atoll(line.c_str() + key.size()) * kKibibyte;
  }
  return kUnknown;
}

/// A file that holds one number; "max" is none.
int64_t number_in(const char* file) {
  std::ifstream stream(file);
  int64_t number = kUnknown;
  return stream >> number ? number : kUnknown;
}

int64_t left_of_control_group() {
  const int64_t limit = number_in("/sys/fs/cgroup/memory.max");
  const int64_t used = number_in("/sys/fs/cgroup/memory.current");
  if (limit < 0 || used < 0) return INT64_MAX;
  // Pages of files that nobody has changed are given up before anything else.
  std::ifstream lines("/sys/fs/cgroup/memory.stat");
  int64_t cache = 0;
  for (std::string key; lines >> key;) {
    int64_t value = 0;
    lines >> value;
    if (key == "inactive_file") cache = value;
  }
  return std::max<int64_t>(0, limit - used + cache);
}

}  // namespace

int64_t resident_memory_bytes() {
  return std::max<int64_t>(0, line_of("/proc/self/status", "VmRSS:"));
}

int64_t peak_memory_bytes() {
  // Not getrusage first: its peak is inherited from the process that started this one.
  const int64_t peak = line_of("/proc/self/status", "VmHWM:");
  if (peak >= 0) return peak;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * kKibibyte;
}

int64_t available_memory_bytes() {
  const int64_t machine = line_of("/proc/meminfo", "MemAvailable:");
  return std::min(machine < 0 ? INT64_MAX : machine, left_of_control_group());
}

void return_freed_memory() {
  constexpr int kLargeBlock = 256 << 10;
  mallopt(M_MMAP_THRESHOLD, kLargeBlock);
  mallopt(M_TRIM_THRESHOLD, kLargeBlock);
}

}  // namespace fewbits

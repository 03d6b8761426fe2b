#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/normal_values.h"
#include "kernels/kernel_table.h"

// What the tests of this layer share.
namespace fewbits {

/// The tables this processor runs.
inline std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables;
  for (const KernelCandidate& candidate : kernel_candidates()) {
    if (candidate.usable) tables.push_back(candidate.table);
  }
  return tables;
}

/// Values in memory whose end is the end of the last readable page: one value too far is a crash.
template <class Value>
class Guarded {
 public:
  explicit Guarded(const std::vector<Value>& values) : Guarded(std::ssize(values)) {
    if (!values.empty()) std::memcpy(data_, values.data(), values.size() * sizeof(Value));
  }
  explicit Guarded(int64_t count) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = static_cast<size_t>(count) * sizeof(Value);
    const size_t readable = (bytes + page - 1) / page * page;
    mapped_ = readable + page;
    base_ = static_cast<std::byte*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + readable, page, PROT_NONE);
    data_ = reinterpret_cast<Value*>(base_ + readable - bytes);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(base_, mapped_); }

  Value* data() { return data_; }
  const Value* data() const { return data_; }
  Value& operator[](int64_t i) { return data_[i]; }

 private:
  std::byte* base_ = nullptr;
  size_t mapped_ = 0;
  Value* data_ = nullptr;
};

/// Lets a test run once for each usable instruction set.
class EachTable : public testing::TestWithParam<const KernelTable*> {};

inline std::string table_name(const testing::TestParamInfo<const KernelTable*>& info) {
  return info.param->name;
}

}  // namespace fewbits

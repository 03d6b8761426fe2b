#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "files/journal.h"

// Any bytes give the lines that count, or an Error for another schema.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto journal = fewbits::parse_journal(std::as_bytes(std::span(data, size)), "fuzz");
    fewbits::check(journal.records.size() == journal.ends.size());
    int64_t end = journal.begin;
    for (const int64_t next : journal.ends) {
      fewbits::check(next > end);
      end = next;
    }
    fewbits::check(end <= static_cast<int64_t>(size));
    static_cast<void>(fewbits::journal_difference(journal.identity, fewbits::Json::object()));
  } catch (const fewbits::Error&) {
  }
  return 0;
}

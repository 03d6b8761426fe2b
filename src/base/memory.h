#pragma once

#include <cstdint>

// What this process takes of the machine's memory, in bytes, as Linux counts it: pages of mapped
// files that were touched and not given back are part of it, the cache of files is not.
namespace fewbits {

/// Now, and the most so far.
int64_t resident_memory_bytes();
int64_t peak_memory_bytes();

/// What can still be had without swapping: the machine's, or the control group's where that is
/// less. INT64_MAX where neither is known.
int64_t available_memory_bytes();

/// Large blocks that are freed go back to the system at once, not to a reserve that grows with
/// use; so what is resident is what is in use. For work that promises to keep to a budget.
void return_freed_memory();

}  // namespace fewbits

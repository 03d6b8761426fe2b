#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tensor_view.h"

namespace fewbits {

/// A tensor as a pickle describes it: a part of a storage.
struct PickledTensor {
  std::string name;
  std::string storage;     ///< key of the storage
  std::string value_type;  ///< "FloatStorage", "HalfStorage", "BFloat16Storage", "LongStorage", ..
  int64_t offset = 0;      ///< of its first value in the storage, in values
  Shape shape;
};

/// The tensors of a state dict in Python's pickle format, protocols 2 to 4, as torch.save writes
/// it. Runs no code: the opcodes are those that such a file needs, and the only functions that a
/// pickle may name are those that put a tensor, a parameter or an ordered dict together, which are
/// understood here and never called. Everything else is refused by its name.
///
/// A state dict may stand below "state_dict" or "model" of another dict. Entries that are no
/// tensors are left out. Throws Error, beginning with `where`, also for tensors that do not lie in
/// their storage row by row.
std::vector<PickledTensor> read_pickle(std::span<const std::byte> bytes, std::string_view where);

}  // namespace fewbits

#pragma once

#include <filesystem>

#include "files/tensor_store.h"

// safetensors: 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}}, then the bytes.
// Source: the format section of the safetensors README.
namespace fewbits {

/// Opens DIR/model.safetensors, or every shard that DIR/model.safetensors.index.json names. Shard names must stay inside the
/// folder. Throws Error, in one line with the path: missing shard (named), a tensor the index promises and no shard has,
/// header or offsets outside the file, overlaps and holes, sizes that overflow or contradict the shape, unknown dtypes
/// (the known ones are listed: F32, F16, BF16), duplicate names.
TensorStore open_safetensors_folder(const std::filesystem::path& folder);

/// A single file.
TensorStore open_safetensors_file(const std::filesystem::path& path);

}  // namespace fewbits

#pragma once

#include <filesystem>
#include <span>
#include <string_view>

#include "files/tensor_store.h"

// safetensors: 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}}, then
// the bytes, without holes. "__metadata__" maps strings to strings. Source: the format section of
// the safetensors README.
namespace fewbits {

/// Opens DIR/model.safetensors, or every shard that DIR/model.safetensors.index.json names. Files
/// must lie inside the folder, behind symbolic links too; a link into the `blobs` of the Hugging
/// Face cache that the folder belongs to is fine. Throws Error, in one line with the path: missing
/// shard (named), a tensor the index promises and no shard has, header or offsets outside the file,
/// overlaps and holes, sizes that overflow or contradict the shape, unknown dtypes (the known ones
/// are listed: F32, F16, BF16), duplicate names. Reads the headers only.
TensorStore open_safetensors_folder(const std::filesystem::path& folder);

/// The same for a folder whose tensors are still to be joined (layouts/join.h): integers and floats
/// of 8 bits are the store's `others`.
TensorStore open_quantized_folder(const std::filesystem::path& folder);

/// A single file.
TensorStore open_safetensors_file(const std::filesystem::path& path);

/// The same for a whole file in memory; `where` begins every error. The tensors borrow `bytes` and
/// come in the order of their bytes. "__metadata__" is checked and left out: it holds nothing about
/// the model. So are integer tensors named "..position_ids", the numbers 0, 1, 2, .. . Integers and
/// floats of 8 bits are `others`.
ParsedFile parse_safetensors(std::span<const std::byte> bytes, std::string_view where);

}  // namespace fewbits

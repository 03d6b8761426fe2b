#pragma once

#include <filesystem>

#include "files/tensor_store.h"

// PyTorch's own files (.bin, .pt, .pth): a zip archive of a pickle, data.pkl, and one member for
// each storage, data/KEY.
namespace fewbits {

/// Opens DIR/pytorch_model.bin, or every shard that DIR/pytorch_model.bin.index.json names. Runs no
/// code of the file's; see pickle.h. Throws Error for what is no such archive (the format before
/// PyTorch 1.6 included) and for tensors outside their storage. Tensors of integers are left out.
TensorStore open_torch_folder(const std::filesystem::path& folder);

/// Whether the folder holds such a file.
bool has_torch_files(const std::filesystem::path& folder);

TensorStore open_torch_file(const std::filesystem::path& path);

/// The same for a whole file in memory; `where` begins every error.
ParsedFile parse_torch(std::span<const std::byte> bytes, std::string_view where);

}  // namespace fewbits

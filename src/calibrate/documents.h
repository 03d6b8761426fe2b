#pragma once

#include <filesystem>
#include <vector>

#include "model/model.h"

namespace fewbits {

/// The tokens of a file to calibrate on. A .jsonl file holds a document in each line: {"text":
/// ...}, behind which comes the model's EOS, or {"messages": [{role, content}]}, which go through
/// the model's chat template; they are put one after another. Any other file is one text. Throws
/// Error that names the file (and line) where it is empty, binary or holds neither.
std::vector<Token> read_documents(const Model& model, const std::filesystem::path& path);

}  // namespace fewbits

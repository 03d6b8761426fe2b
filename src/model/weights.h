#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "model/model.h"

// From an architecture's description to the tensors of one checkpoint.
namespace fewbits {

enum class SourceKind { kHuggingFace, kGguf };

/// Finds every tensor of the description, checks its shape against `model.config`, fills
/// `model.weights` (and `derived`), and settles config.tied_embeddings. Throws Error, beginning
/// with the path, that names the tensor: missing, of the wrong shape (expected and found), or left
/// over.
void find_weights(Model& model, SourceKind source);

/// Which row of a q or k matrix with each RoPE pair side by side (0, d/2, 1, d/2 + 1, ...) holds
/// each row of the half-split order (0, 1, ... d - 1), head by head; `inverse` the other way round.
std::vector<int32_t> interleaved_rows(int64_t heads, int64_t head_dim, bool inverse);

}  // namespace fewbits

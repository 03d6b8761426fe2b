#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "files/layouts/activation_scheme.h"
#include "files/tensor_store.h"
#include "model/architecture.h"
#include "model/config.h"
#include "model/tokenizer.h"

namespace fewbits {

/// One tensor of the model and where its values lie. Inside the program it has the shape that GGUF
/// gives it, and its rows are in Hugging Face's order.
struct Weight {
  std::string gguf_name;  ///< "blk.3.attn_q.weight": the name inside the program and in reports
  Role role;
  int64_t layer = -1;                    ///< -1: outside the layers
  const StoredTensor* tensor = nullptr;  ///< the first of `parts`, where there are any
  Shape shape = {};
  /// One tensor for each expert (or head), where the checkpoint keeps them apart.
  std::vector<const StoredTensor*> parts = {};
  bool transposed = false;  ///< stored as {columns, rows}, in a float format
  float added = 0;          ///< to every stored value: Gemma's norms are kept less one
  /// Stored row of each row in our order; empty: the same.
  std::vector<int32_t> stored_rows = {};
  /// For writing GGUF: our row of each GGUF row; empty: the same.
  std::vector<int32_t> gguf_rows = {};
  /// Gives one of our rows where values are not those stored, but computed of them as they are read
  /// (transforms); from any thread.
  std::function<void(int64_t row, float* out)> computed = {};

  const Format& format() const { return *tensor->view.format; }
  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  int64_t rows() const;
  int64_t values() const { return rows() * columns(); }
  int64_t stored_bytes() const;
  int64_t row_of_gguf(int64_t gguf_row) const {
    return gguf_rows.empty() ? gguf_row : int64_t{gguf_rows[static_cast<size_t>(gguf_row)]};
  }
  bool is_matrix() const { return shape.size() >= 2 && is_linear_map(role); }

  /// Whether the bytes of a row in `format()` are stored as they are.
  bool has_row_bytes() const { return !transposed && added == 0 && !computed; }
  /// In `scratch` where the row must be put together. REQUIRES: has_row_bytes().
  std::span<const std::byte> row_bytes(int64_t row, std::vector<std::byte>& scratch) const;
  /// The values of one of our rows. Out: columns().
  void read_row(int64_t row, float* out) const;
  /// Gives back the pages of the file.
  void drop_pages() const;
};

/// A tensor that follows from the config and that GGUF wants spelled out (Llama 3's
/// rope_freqs.weight). Its `file` is an empty mapping, and it is far smaller than a page, so
/// dropping its pages does nothing.
struct DerivedTensor {
  std::vector<float> values;
  MappedFile no_file;
  StoredTensor tensor;
};

/// A checkpoint opened, checked and understood, nothing of it loaded: weights stay in the mapped
/// files. Movable; weights point into `store` and `derived`, whose elements stay where they are.
struct Model {
  std::filesystem::path path;
  TensorStore store;
  std::vector<std::unique_ptr<DerivedTensor>> derived;
  const Architecture* architecture = nullptr;
  ModelConfig config;
  /// Of a GGUF: all of it. Of a folder: what a GGUF would say, but for the tokenizer
  /// and chat template; see gguf_metadata.
  Metadata metadata;
  Tokenizer tokenizer;
  std::string chat_template;  ///< "" where the model has none
  std::vector<Token>
      stop_tokens;  ///< end generation besides those the tokenizer knows (generation_config.json)
  std::vector<Weight>
      weights;  ///< embedding, then the layers, then output norm and output, in GGUF order
  std::vector<std::string> warnings;
  ActivationScheme activations = {};  ///< of a quantized folder

  const Weight* find(Role role, int64_t layer = -1) const;
  int64_t parameters() const;  ///< values in all weights
  bool ends_generation(Token token) const;
};

/// Opens a Hugging Face folder or a .gguf file. Throws Error where a tensor is missing, left over,
/// or has a shape that contradicts the config.
/// `lora`: a PEFT adapter that is merged into the matrices as they are read ("": none); only into
/// a folder.
Model open_model(const std::filesystem::path& path, const std::filesystem::path& lora = {});

/// What a GGUF of this model carries, complete whatever the source was. Throws Error where GGUF
/// cannot hold the model's tokenizer: such a model runs and is evaluated, but not written.
Metadata gguf_metadata(const Model& model);

}  // namespace fewbits

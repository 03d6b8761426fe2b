#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "files/layouts/layout.h"
#include "formats/format.h"

// The layouts of the Python package compressed-tensors, which vLLM, SGLang and transformers load. A
// linear layer X of a quantized model has, instead of X.weight:
//
//     pack-quantized        X.weight_packed  int32: codes of a row, lowest bits first, no gaps
//     (int2 to int8)        X.weight_scale [rows, groups]     X.weight_shape int64 [2]
//                           X.weight_zero_point int32, where asymmetric: packed along the rows
//     int-quantized         X.weight int8     X.weight_scale [rows, 1]     X.weight_zero_point int8
//     float-quantized       X.weight E4M3     X.weight_scale [rows, 1], or [1] for a tensor
//     nvfp4-pack-quantized  X.weight_packed uint8, two codes a byte, the first low
//                           X.weight_scale E4M3 [rows, groups]     X.weight_global_scale [1]: 1 /
//                           ours
//     mxfp4-pack-quantized  X.weight_packed as above     X.weight_scale uint8: E8M0 [rows, groups]
//
// Of 2:4 sparse weights of a byte each X.compressed [rows, columns / 2] takes the place of
// X.weight: two of four codes, those whose bits are set in X.bitmask uint8 [rows, columns / 8], the
// first lowest; X.shape int64 [2, 1]. The package's 0.11 reads that, 0.20 no longer.
//
// Where columns that matter alike share a group, also X.weight_g_idx int32: the group of each,
// which the package's 0.11 reads, 0.20 no longer. Where the inputs are rounded by scales of
// calibration, also X.input_scale [1], float; of NVFP4, whose groups have scales of their own,
// X.input_global_scale [1]: by what E4M3 scales of codes up to 6 are multiplied. Beside attention's
// layers k_scale and v_scale [1] of a KV cache in E4M3. config.json says so under
// "quantization_config".
namespace fewbits {

/// Whether there is a layout for weights in `format`.
bool compressed_tensors_holds(const Format& format);

/// Whether the config can say so of the inputs of layers in `format`.
bool compressed_tensors_says(const Format& format, Inputs inputs);

/// Whether the zeros of 2:4 sparse weights in `format` can be left out.
bool compressed_tensors_thins(const Format& format);

/// "quantization_config" of a model whose linear layers are kept so but for the modules to ignore.
Json compressed_tensors_config(const FolderScheme& scheme, const std::vector<std::string>& ignored);

/// Rows are written as they come, scales and zero points behind them.
class CompressedTensor : public LayoutTensor {
 public:
  CompressedTensor(const FolderScheme& scheme, std::string module, int64_t rows, int64_t columns);

  std::vector<SafetensorsEntry> entries() const override;
  std::span<const std::byte> append_rows(std::span<const std::byte> bytes) override;
  std::vector<std::byte> rest() override;

 private:
  std::vector<SafetensorsEntry> weight_entries() const;
  void append_row(const std::byte* row, std::byte* out);
  void append_zeros(std::vector<std::byte>& out) const;
  void append_half(const uint8_t* codes, std::byte* out);
  void keep_parameters(const BlockParameters& parameters);
  int64_t scales_of_row() const;
  int64_t codes_bytes() const;

  FolderScheme scheme_;
  const Format& format_;
  std::string module_;
  int64_t rows_, columns_;
  std::vector<std::byte> band_;
  std::vector<std::byte> scales_;
  std::vector<std::byte> mask_;  ///< of sparse weights
  std::vector<uint8_t> zeros_;   ///< [row][group]
  float outer_scale_ = 1;        ///< of the tensor
};

}  // namespace fewbits

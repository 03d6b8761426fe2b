#pragma once

#include <string_view>

#include "base/json.h"
#include "files/layouts/activation_scheme.h"
#include "files/tensor_store.h"

// Reads quantized model folders: the tensors that a layout splits each weight into become one
// matrix again (see joined_tensor.h).
namespace fewbits {

/// Joins the tensors of a folder (open_quantized_folder) by what its config.json says under
/// "quantization_config". Throws Error, beginning with `where`, where the layout is unknown (the
/// known ones are listed), or a tensor is missing or has a shape or type that contradicts the
/// others. What it says of inputs and the cache is returned.
ActivationScheme join_tensors(TensorStore& store, const Json& quantization_config,
                              std::string_view where);

}  // namespace fewbits

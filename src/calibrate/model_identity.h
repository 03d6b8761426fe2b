#pragma once

#include <string>

#include "model/model.h"

namespace fewbits {

/// Tells models apart without reading them whole: SHA-256 of the names and shapes of all weights
/// and of the values of some rows of each, whatever file they come from. Statistics carry it, so
/// that those of another model are noticed.
std::string model_identity(const Model& model);

}  // namespace fewbits

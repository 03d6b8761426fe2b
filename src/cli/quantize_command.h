#pragma once

#include "cli/quantize_arguments.h"
#include "cli/tuning.h"

namespace fewbits::cli {

/// One model quantized as `arguments`, settled, say.
void run_quantize_command(QuantizeArguments& arguments);

/// The same, where the output is none that an equal command has finished. Returns what its
/// certificate says it was made of and how.
TuneOrigin run_quantize_command_once(QuantizeArguments& arguments);

}  // namespace fewbits::cli

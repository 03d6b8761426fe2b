#include "cli/activation_arguments.h"

#include <vector>

#include "base/text.h"

namespace fewbits::cli {

ActivationOptions ActivationArguments::options(const KvArguments& kv) const {
  ActivationOptions options = activation_options(format);
  options.cache_scales = !kv.options().coded();
  return options;
}

void declare(ActivationArguments& arguments, CLI::App& verb) {
  std::vector<std::string> names;
  for (const ActivationFormat& known : activation_formats()) names.emplace_back(known.name);
  verb.add_option(
      "--activations", arguments.format,
      "Round the inputs of the layers' matrices, though not of the output layer: none, " +
          join(names) + "; by default as a model folder says");
}

}  // namespace fewbits::cli

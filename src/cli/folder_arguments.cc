#include "cli/folder_arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "formats/format.h"

namespace fewbits::cli {
namespace {

constexpr std::string_view kDefaultLayout = "compressed-tensors";

std::vector<std::string> known_layouts() {
  std::vector<std::string> names = written_layouts();
  names.emplace_back("gguf");
  return names;
}

}  // namespace

bool FolderArguments::wanted(const std::string& out) const {
  if (!layout.empty()) return layout != "gguf";
  return lower_ascii(std::filesystem::path(out).extension().string()) != ".gguf";
}

const Layout& FolderArguments::settle(const std::string& out, const std::string& to,
                                      bool calibrated) {
  const Layout& chosen = layout_named(layout.empty() ? kDefaultLayout : std::string_view(layout));
  const Format* format = find_format(to);
  if (format == nullptr || !chosen.writes(*format)) {
    throw Error(
        fmt::format("{}: a model folder in the layout {} cannot hold {}, only {}; for others give "
                    "a name that ends in .gguf",
                    out, chosen.name, to, join(formats_of(chosen))));
  }
  check(chosen, *format, calibrated);
  layout = chosen.name;
  return chosen;
}

void FolderArguments::refuse_outside_folders() const {
  if (plain()) return;
  throw Error(
      "--activations, --observer, --kv-scales, --act-order and --sparse: only for a model folder");
}

void FolderArguments::check(const Layout& chosen, const Format& format, bool calibrated) const {
  if (plain()) return;
  refuse_unkept(chosen, scheme(format));
  if (!observer.empty()) {
    if (inputs() != Inputs::kStatic) throw Error("--observer: only with --activations static");
    StreamOptions ignored;
    observe(chosen, format, ignored);
  }
  if (sparse && calibrated) {
    throw Error("--sparse: weights are chosen by size alone; leave --calibrate out");
  }
  if (calibrated) return;
  if (inputs() == Inputs::kStatic || kv_scales || act_order) {
    throw Error(
        "--activations static, --kv-scales and --act-order need --calibrate TEXT: what they write "
        "is measured on it");
  }
}

FolderScheme FolderArguments::scheme(const Format& format) const {
  return {.format = format,
          .inputs = inputs(),
          .kv_scales = kv_scales,
          .by_use = act_order,
          .sparse = sparse};
}

void FolderArguments::observe(const Layout& chosen, const Format& format,
                              StreamOptions& streams) const {
  if (observer.empty()) return;
  streams.observer = observer_named(observer);
  streams.observed = chosen.inputs(chosen.config(scheme(format), {})).format;
  refuse_observer(streams.observer, *streams.observed);
}

void FolderArguments::describe(Json& recipe) const {
  recipe["layout"] = layout;
  if (!activations.empty()) recipe["activations"] = activations;
  if (!observer.empty()) recipe["observer"] = observer;
  if (kv_scales) recipe["kv_scales"] = true;
  if (act_order) recipe["act_order"] = true;
  if (sparse) recipe["sparse"] = "2:4";
}

FolderTarget FolderArguments::target(const std::string& out, const Layout& chosen) const {
  FolderTarget target{.path = out, .layout = &chosen};
  target.inputs = inputs();
  target.kv_scales = kv_scales;
  target.by_use = act_order;
  target.sparse = sparse;
  return target;
}

std::optional<Inputs> FolderArguments::inputs() const {
  const auto found = std::find(std::begin(kInputNames), std::end(kInputNames), activations);
  if (found == std::end(kInputNames)) return {};
  return static_cast<Inputs>(found - std::begin(kInputNames));
}

bool FolderArguments::plain() const {
  return activations.empty() && observer.empty() && !kv_scales && !act_order && !sparse;
}

void declare(FolderArguments& arguments, CLI::App& verb) {
  verb.add_option("--layout", arguments.layout,
                  "gguf (where OUT is named so), or a Hugging Face folder in the layout " +
                      join(written_layouts()) + "; compressed-tensors where nothing is said")
      ->check(CLI::IsMember(known_layouts()));
  verb.add_option("--activations", arguments.activations,
                  "What a folder says of its layers' inputs: floats, dynamic (rounded by scales "
                  "found as they come), static (by scales from --calibrate); else as usual for "
                  "the format")
      ->check(
          CLI::IsMember(std::vector<std::string>(std::begin(kInputNames), std::end(kInputNames))));
  verb.add_option("--observer", arguments.observer,
                  "The range of static inputs: absmax, average (of the samples' largest), mse "
                  "(least squared error), entropy (of int8, as TensorRT), percentile, "
                  "percentile:99.9; absmax where nothing is said");
  verb.add_flag("--kv-scales", arguments.kv_scales,
                "Write scales for an FP8 KV cache into a folder, from --calibrate");
  verb.add_flag("--act-order", arguments.act_order,
                "Let the columns share groups that matter alike in --calibrate, and write which "
                "(g_idx): folders of integers in groups, slower to run");
  verb.add_flag("--sparse", arguments.sparse,
                "Of four weights in a row let the smaller two be 0, and leave them out: folders in "
                "FP8 or int8_channel");
}

std::string usual_folder_formats() {
  return join(formats_of(layout_named(kDefaultLayout)));
}

}  // namespace fewbits::cli

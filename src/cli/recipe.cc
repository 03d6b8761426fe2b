#include "cli/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/text.h"
#include "files/yaml.h"

namespace fewbits::cli {
namespace {

constexpr std::string_view kRecipe = "--recipe";
constexpr std::string_view kFiles[] = {"calibrate", "certify", "imatrix", "lora", "sensitivity"};
constexpr std::string_view kNotInRecipes[] = {"recipe", "help"};

bool is_one_of(std::string_view name, std::span<const std::string_view> names) {
  return std::ranges::find(names, name) != names.end();
}

class Recipe {
 public:
  Recipe(const std::filesystem::path& path, const CLI::App& verb) : path_(path), verb_(verb) {}

  /// What one would type, but for options that `typed` has.
  std::vector<std::string> arguments(const std::vector<std::string>& typed) const {
    const Json json = read_yaml_file(path_);
    if (!json.is_object()) throw error("it is no mapping of options to values");
    std::vector<std::string> result;
    for (const auto& [key, value] : json.items()) {
      const CLI::Option& option = option_of(key);
      if (!is_typed(key, typed)) append(key, option, value, result);
    }
    return result;
  }

 private:
  Error error(const std::string& what) const {
    return Error(fmt::format("{}: {}", path_.string(), what));
  }

  const CLI::Option& option_of(const std::string& key) const {
    const CLI::Option* option = verb_.get_option_no_throw("--" + key);
    if (option == nullptr || is_one_of(key, kNotInRecipes)) {
      throw error(unknown_name(key, "key", known()));
    }
    return *option;
  }

  std::vector<std::string> known() const {
    std::vector<std::string> names;
    for (const CLI::Option* option : verb_.get_options()) {
      for (const std::string& name : option->get_lnames()) {
        if (!is_one_of(name, kNotInRecipes)) names.push_back(name);
      }
    }
    std::ranges::sort(names);
    return names;
  }

  static bool is_typed(const std::string& key, const std::vector<std::string>& typed) {
    return std::ranges::any_of(typed, [&](const std::string& argument) {
      return argument == "--" + key || argument.starts_with("--" + key + "=");
    });
  }

  void append(const std::string& key, const CLI::Option& option, const Json& value,
              std::vector<std::string>& result) const {
    if (option.get_items_expected_max() == 0) {  // a flag
      if (value != "true" && value != "false") throw error(key + ": true or false is expected");
      if (value == "true") result.push_back("--" + key);
    } else if (value.is_string()) {
      result.push_back(fmt::format("--{}={}", key, text_of(key, value)));
    } else if (value.is_array()) {
      for (const Json& part : value) {
        if (!part.is_string()) throw error(key + ": a list of plain values is expected");
        result.push_back(fmt::format("--{}={}", key, text_of(key, part)));
      }
    } else {
      append_pairs(key, value, result);
    }
  }

  void append_pairs(const std::string& key, const Json& value,
                    std::vector<std::string>& result) const {
    if (key != "tensor") throw error(key + ": a plain value is expected");
    for (const auto& [glob, format] : value.items()) {
      if (!format.is_string()) throw error(key + ": GLOB: FORMAT is expected");
      result.push_back(fmt::format("--{}={}={}", key, glob, format.get<std::string>()));
    }
  }

  std::string text_of(const std::string& key, const Json& value) const {
    const auto text = value.get<std::string>();
    if (!is_one_of(key, kFiles)) return text;
    return (path_.parent_path() / text).string();  // an absolute path stays
  }

  std::filesystem::path path_;
  const CLI::App& verb_;
};

/// Takes --recipe FILE or --recipe=FILE out of the arguments.
std::optional<std::string> take_path(std::vector<std::string>& arguments) {
  const auto found = std::ranges::find_if(arguments, [](const std::string& argument) {
    return argument == kRecipe || argument.starts_with(std::string(kRecipe) + "=");
  });
  if (found == arguments.end()) return {};
  if (*found != kRecipe) {
    const std::string path = found->substr(kRecipe.size() + 1);
    arguments.erase(found);
    return path;
  }
  if (std::next(found) == arguments.end()) return {};  // the parser says what is missing
  const std::string path = *std::next(found);
  arguments.erase(found, std::next(found, 2));
  return path;
}

}  // namespace

std::vector<std::string> with_recipe(const std::vector<std::string>& typed, const CLI::App& app) {
  if (typed.empty()) return typed;
  const auto verbs =
      app.get_subcommands([&](const CLI::App* verb) { return verb->get_name() == typed.front(); });
  if (verbs.empty() || verbs.front()->get_option_no_throw(std::string(kRecipe)) == nullptr) {
    return typed;
  }
  std::vector<std::string> arguments = typed;
  const auto path = take_path(arguments);
  if (!path) return typed;
  const std::vector<std::string> kept = Recipe(*path, *verbs.front()).arguments(arguments);
  arguments.insert(arguments.end(), kept.begin(), kept.end());
  return arguments;
}

}  // namespace fewbits::cli

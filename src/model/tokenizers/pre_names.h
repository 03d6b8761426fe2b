#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

// GGUF does not carry the pre-tokenizer of a byte-level BPE but a name for it, in
// tokenizer.ggml.pre. This is the table of those names.
namespace fewbits {

struct PreName {
  std::string_view name;
  /// Each splits the words that the one before it left; what does not match is a word too.
  std::span<const std::string_view> expressions;
  bool ignore_merges = false;
  bool adds_bos = false;  ///< unless the file says otherwise
};

/// Where names share expressions, the first is the one to write.
std::span<const PreName> pre_names();

/// Throws Error, beginning with `where`, that lists the known names.
const PreName& find_pre_name(std::string_view name, std::string_view where);

/// The name for these expressions; null where there is none.
const PreName* name_of_expressions(const std::vector<std::string>& expressions, bool ignore_merges);

}  // namespace fewbits

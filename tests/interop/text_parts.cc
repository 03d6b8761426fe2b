// What one normalizer or pre-tokenizer makes of many texts, for tests/interop/text_parts.py: a JSON
// object
// {"normalizer": .., "texts": [..]} or {"pre_tokenizer": .., "texts": [..]} on standard input, the
// results as a JSON list on standard output.
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/tokenizers/normalizer.h"
#include "model/tokenizers/pre_tokenizer.h"

namespace {

using namespace fewbits;

Json results(const Json& input) {
  Json results = Json::array();
  if (input.contains("normalizer")) {
    const auto normalizer = Normalizer::from_json(input.at("normalizer"), "normalizer");
    for (const Json& text : input.at("texts")) {
      results.push_back(normalizer.apply(text.get<std::string>()));
    }
    return results;
  }
  const auto pre_tokenizer = PreTokenizer::from_json(input.at("pre_tokenizer"), "pre_tokenizer");
  for (const Json& text : input.at("texts")) {
    const Words words = pre_tokenizer.apply(text.get<std::string>(), /*at_start=*/true);
    std::vector<std::string> pieces;
    for (const ByteRange range : words.ranges) pieces.emplace_back(slice(words.text, range));
    results.push_back(pieces);
  }
  return results;
}

}  // namespace

int main() {
  try {
    const std::string input{std::istreambuf_iterator<char>(std::cin), {}};
    std::cout << results(parse_json(input, "standard input")).dump() << '\n';
  } catch (const fewbits::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}

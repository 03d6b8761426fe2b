// How long one tokenizer takes for many texts, for bench/tokenizer_speed.py: a JSON object
// {"model": folder, "texts": [..]} on standard input, {"seconds": .., "tokens": ..} on standard
// output.
#include <chrono>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/tokenizer.h"

namespace {

using namespace fewbits;

Json measure(const Json& input) {
  const auto tokenizer =
      Tokenizer::from_folder(input.at("model").get<std::string>(), Json::object());
  const auto texts = input.at("texts").get<std::vector<std::string>>();
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  size_t tokens = 0;
  for (const std::string& text : texts) tokens += tokenizer.encode(text).size();
  const std::chrono::duration<double> seconds = Clock::now() - start;
  return {{"seconds", seconds.count()}, {"tokens", tokens}};
}

}  // namespace

int main() {
  try {
    const std::string input{std::istreambuf_iterator<char>(std::cin), {}};
    std::cout << measure(parse_json(input, "standard input")).dump() << '\n';
  } catch (const fewbits::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}

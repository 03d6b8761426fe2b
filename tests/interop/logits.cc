// Prints the logits of a model for given tokens as raw floats, so that scripts can compare them
// with other programs'.
//
// usage: logits MODEL OUT [--float] [--states] TOKEN...      OUT: [tokens][vocabulary], little
// endian; --float: no int8 arithmetic, inputs as they are whatever a folder says; --states: the
// hidden states behind the last layer
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace {

struct Arguments {
  std::string model, out;
  bool float_math = false, states = false;
  std::vector<fewbits::Token> tokens = {};
};

Arguments parse(const std::vector<std::string>& words) {
  Arguments arguments{words.at(0), words.at(1)};
  for (size_t i = 2; i < words.size(); ++i) {
    if (words[i] == "--float") {
      arguments.float_math = true;
    } else if (words[i] == "--states") {
      arguments.states = true;
    } else {
      arguments.tokens.push_back(std::stoi(words[i]));
    }
  }
  return arguments;
}

void print_logits(const Arguments& arguments) {
  const fewbits::Model model = fewbits::open_model(arguments.model);
  fewbits::ThreadPool pool;
  fewbits::Engine engine(model, pool,
                         {.pack = {.float_math = arguments.float_math},
                          .activations = {.as_stored = !arguments.float_math}});
  const auto count = static_cast<int64_t>(arguments.tokens.size());
  fewbits::KvCache cache(model.config, count);
  const auto states = engine.forward(arguments.tokens, cache, count);
  std::vector<float> logits(states.begin(), states.end());
  if (!arguments.states) {
    logits.resize(static_cast<size_t>(count * model.config.vocabulary));
    engine.logits(states, count, logits.data());
  }
  std::ofstream out(arguments.out, std::ios::binary);
  out.write(reinterpret_cast<const char*>(logits.data()),
            static_cast<std::streamsize>(logits.size() * sizeof(float)));
}

}  // namespace

int main(int count, char** words) {
  try {
    print_logits(parse({words + 1, words + count}));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "logits: %s\n", error.what());
    return 1;
  }
}

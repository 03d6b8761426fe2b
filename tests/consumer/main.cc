#include <cstdio>
#include <fewbits/fewbits.h>

// Reaches into every layer of the library without needing a model.
int main() {
  try {
    fewbits::quantize({.model = "no-such-model", .out = "out.gguf", .to = "Q8_0"});
  } catch (const fewbits::Error& error) {
    std::printf("fewbits %s says: %s\n", fewbits::version().data(), error.what());
    return 0;
  }
  return 1;
}

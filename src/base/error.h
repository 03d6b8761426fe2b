#pragma once

#include "fewbits/error.h"

// Two planes of error.
//
//   throw Error("model.safetensors: tensor 'q' ends at 9012, file has 8192 bytes")
//     The world's mistake: a file, an argument, a full disk. Says where, what, the limit and what
//     to do, in one line. Caught only by the command line, the server and the bindings; exit
//     code 1.
//
//   check(rows % group == 0)
//     Our own mistake, on in release builds too: prints file and line, then aborts. Never for
//     input.
namespace fewbits {

[[noreturn]] void check_failed(const char* file, int line) noexcept;

/// A function, not a macro, so that it clashes with nobody's `check`; the default arguments are the
/// caller's place.
constexpr void check(bool condition, const char* file = __builtin_FILE(),
                     int line = __builtin_LINE()) noexcept {
  if (!condition) check_failed(file, line);
}

}  // namespace fewbits

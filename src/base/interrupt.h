#pragma once

#include <string_view>

namespace fewbits {

/// From here on SIGINT and SIGTERM ask the work to stop instead of killing the process. A second
/// signal kills it.
void catch_interrupts();

/// Where the work has not stopped a second after the signal (a factorization of a large matrix
/// asks nobody), the process ends by itself with this line on stderr and exit code 130. For work
/// that may be killed at any moment; at most 400 bytes are kept. "": it goes on until it asks.
void stop_within_a_second(std::string_view line);

/// Whether a signal came since catch_interrupts().
bool interrupted();

/// Throws Interrupted where a signal came. Long loops call it at least every few hundred
/// milliseconds.
void throw_if_interrupted();

}  // namespace fewbits

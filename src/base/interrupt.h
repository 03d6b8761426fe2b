#pragma once

namespace fewbits {

/// From here on SIGINT and SIGTERM ask the work to stop instead of killing the process. A second
/// signal kills it.
void catch_interrupts();

/// Whether a signal came since catch_interrupts().
bool interrupted();

/// Throws Interrupted where a signal came. Long loops call it at least every few hundred
/// milliseconds.
void throw_if_interrupted();

}  // namespace fewbits

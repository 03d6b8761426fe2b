#include "base/interrupt.h"

#include <csignal>

#include "base/error.h"

namespace fewbits {
namespace {

volatile std::sig_atomic_t signal_seen = 0;

extern "C" void remember_signal(int signal) {
  if (signal_seen != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  signal_seen = signal;
}

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = remember_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() {
  return signal_seen != 0;
}

void throw_if_interrupted() {
  if (interrupted()) throw Interrupted("interrupted");
}

}  // namespace fewbits

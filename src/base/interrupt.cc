#include "base/interrupt.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "base/error.h"

namespace fewbits {
namespace {

constexpr int kInterruptedCode = 130;  // what shells expect after Ctrl-C

volatile std::sig_atomic_t signal_seen = 0;
volatile std::sig_atomic_t last_line_size = 0;
char last_line[401];

extern "C" void remember_signal(int signal) {
  if (signal_seen != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  signal_seen = signal;
  if (last_line_size != 0) alarm(1);
}

extern "C" void stop(int) {
  // What cannot be said cannot be helped.
  static_cast<void>(!write(STDERR_FILENO, last_line, static_cast<size_t>(last_line_size)));
  _exit(kInterruptedCode);
}

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = remember_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void stop_within_a_second(std::string_view line) {
  last_line_size = 0;
  const size_t size = std::min(line.size(), sizeof last_line - 1);
  std::copy_n(line.begin(), size, last_line);
  last_line[size] = '\n';
  struct sigaction action {};
  action.sa_handler = stop;
  sigaction(SIGALRM, &action, nullptr);
  last_line_size = size == 0 ? 0 : static_cast<int>(size) + 1;
}

bool interrupted() {
  return signal_seen != 0;
}

void throw_if_interrupted() {
  if (interrupted()) throw Interrupted("interrupted");
}

}  // namespace fewbits

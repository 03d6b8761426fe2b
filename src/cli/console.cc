#include "cli/console.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/error.h"

namespace fewbits::cli {
namespace {

constexpr double kSecondsBetweenBars = 0.1;
constexpr double kSecondsBetweenLines = 10;
constexpr size_t kWarningsShown = 5;
constexpr int kBarWidth = 24;
constexpr int64_t kKibibyte = 1024;  // the unit in which Linux counts a process's memory

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02} min", whole / 60, whole % 60);
  return fmt::format("{}:{:02} h", whole / 3600, whole / 60 % 60);
}

}  // namespace

void warn(std::string_view message) {
  fmt::print(stderr, "fewbits: warning: {}\n", message);
}

void warn_all(const std::vector<std::string>& warnings) {
  const size_t shown = std::min(warnings.size(), kWarningsShown);
  for (size_t i = 0; i < shown; ++i) warn(warnings[i]);
  if (warnings.size() > shown) warn(fmt::format("and {} more", warnings.size() - shown));
}

void print(std::string_view text) {
  const size_t written = std::fwrite(text.data(), 1, text.size(), stdout);
  if (written != text.size() || std::fflush(stdout) != 0) {
    throw Error(fmt::format("standard output: {}", std::strerror(errno)));
  }
}

void print_json(const Json& json) {
  print(json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

int64_t peak_memory_bytes() {
  // Not getrusage first: its peak is inherited from the process that started this one.
  std::ifstream status("/proc/self/status");
  constexpr std::string_view kKey = "VmHWM:";
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(kKey)) return std::atoll(line.c_str() + kKey.size()) * kKibibyte;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * kKibibyte;
}

double Stopwatch::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

Progress::Progress(std::string what)
    : what_(std::move(what)), terminal_(isatty(STDERR_FILENO) != 0) {
  next_ = terminal_ ? kSecondsBetweenBars : kSecondsBetweenLines;
}

Progress::~Progress() {
  finish();
}

void Progress::update(int64_t done, int64_t total, std::string_view detail) {
  if (total <= 0 || clock_.seconds() < next_) return;
  draw(static_cast<double>(done) / static_cast<double>(total), detail);
  drawn_ = true;
  next_ = clock_.seconds() + (terminal_ ? kSecondsBetweenBars : kSecondsBetweenLines);
}

void Progress::finish() {
  if (drawn_ && terminal_) fmt::print(stderr, "\r\x1b[K");
  drawn_ = false;
}

void Progress::draw(double fraction, std::string_view detail) const {
  const double seconds = clock_.seconds();
  const std::string left = fraction > 0 ? duration(seconds / fraction - seconds) : "?";
  if (!terminal_) {
    fmt::print(stderr, "{}: {:.0f} %, {} left {}\n", what_, 100 * fraction, left, detail);
    return;
  }
  const int full = static_cast<int>(fraction * kBarWidth);
  fmt::print(stderr, "\r\x1b[K{} [{:#<{}}{:.<{}}] {:3.0f} %, {} left  {}", what_, "", full, "",
             kBarWidth - full, 100 * fraction, left, detail);
  std::fflush(stderr);
}

}  // namespace fewbits::cli

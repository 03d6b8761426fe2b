#include "cli/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/text.h"

namespace fewbits::cli {
namespace {

constexpr double kSecondsBetweenBars = 0.1;
constexpr double kSecondsBetweenLines = 10;
constexpr size_t kWarningsShown = 5;
constexpr int kBarWidth = 24;

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

std::string human_seconds(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02} min", whole / 60, whole % 60);
  return fmt::format("{}:{:02} h", whole / 3600, whole / 60 % 60);
}

double Stopwatch::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

Progress::Progress(std::string what, Unit unit)
    : what_(std::move(what)), unit_(unit), terminal_(isatty(STDERR_FILENO) != 0) {
  next_ = terminal_ ? kSecondsBetweenBars : kSecondsBetweenLines;
}

Progress::Progress(std::string what, int64_t layers) : Progress(std::move(what), Unit::kLayers) {
  layers_ = layers;
}

Progress::~Progress() {
  finish();
}

void Progress::update(int64_t done, int64_t total, std::string_view detail) {
  if (first_ < 0) first_ = static_cast<double>(done);
  if (total <= 0 || clock_.seconds() < next_) return;
  draw(static_cast<double>(done), static_cast<double>(done) / static_cast<double>(total), detail);
  drawn_ = true;
  next_ = clock_.seconds() + (terminal_ ? kSecondsBetweenBars : kSecondsBetweenLines);
}

void Progress::finish() {
  if (drawn_ && terminal_) fmt::print(stderr, "\r\x1b[K");
  drawn_ = false;
}

/// "42 %, 12.3 MB/s, 1:07 min left, 106 MB of memory"
std::string Progress::facts(double done, double fraction) const {
  const double seconds = clock_.seconds(), rate = seconds > 0 ? (done - first_) / seconds : 0;
  const std::string left =
      fraction > 0 && rate > 0 ? human_seconds((done / fraction - done) / rate) : "?";
  std::string text = fmt::format("{:3.0f} %, ", 100 * fraction);
  if (rate > 0) text += rate_text(rate, done / fraction);
  return text + fmt::format("{} left, {} of memory", left, human_bytes(resident_memory_bytes()));
}

std::string Progress::rate_text(double rate, double total) const {
  constexpr double kMinute = 60;
  if (unit_ == Unit::kBytes) return human_bytes(static_cast<int64_t>(rate)) + "/s, ";
  if (unit_ != Unit::kLayers) return "";
  return fmt::format("{:.1f} layers/min, ", rate / total * static_cast<double>(layers_) * kMinute);
}

void Progress::draw(double done, double fraction, std::string_view detail) const {
  if (!terminal_) {
    fmt::print(stderr, "{}: {}  {}\n", what_, facts(done, fraction), detail);
    return;
  }
  const int full = static_cast<int>(fraction * kBarWidth);
  fmt::print(stderr, "\r\x1b[K{} [{:#<{}}{:.<{}}] {}  {}", what_, "", full, "", kBarWidth - full,
             facts(done, fraction), detail);
  std::fflush(stderr);
}

}  // namespace fewbits::cli

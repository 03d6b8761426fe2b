#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/memory.h"

// How the program talks: warnings and progress on stderr, facts on stdout.
namespace fewbits::cli {

/// "fewbits: warning: ..." on stderr.
void warn(std::string_view message);

/// One line each for up to a handful of warnings of one kind, then how many more there were.
void warn_all(const std::vector<std::string>& warnings);

/// Writes to stdout and notices when nobody can read it (a full disk, a closed pipe): Error.
void print(std::string_view text);
void print_json(const Json& json);

/// "42 s", "3:07 min", "1:20 h"
std::string human_seconds(double seconds);

/// Seconds since some start.
class Stopwatch {
 public:
  double seconds() const;

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// A bar with time left and memory in use on a terminal, for bytes and layers with their rate;
/// elsewhere a plain line every ten seconds.
class Progress {
 public:
  enum class Unit { kAny, kBytes, kLayers };

  explicit Progress(std::string what, Unit unit = Unit::kAny);
  /// What is counted is work of any kind; the rate is told in layers.
  Progress(std::string what, int64_t layers);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `detail` names what is being worked on. Cheap: prints a few times a second at most.
  void update(int64_t done, int64_t total, std::string_view detail = {});

  /// Removes the bar from the terminal.
  void finish();

 private:
  void draw(double done, double fraction, std::string_view detail) const;

  std::string facts(double done, double fraction) const;
  std::string rate_text(double rate, double total) const;

  std::string what_;
  Unit unit_;
  int64_t layers_ = 0;
  Stopwatch clock_;
  bool terminal_;
  double next_ = 0;    ///< when to print again, in seconds
  double first_ = -1;  ///< what was done at the first update, by an earlier run perhaps
  bool drawn_ = false;
};

}  // namespace fewbits::cli

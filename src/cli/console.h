#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

// How the program talks: warnings and progress on stderr, facts on stdout.
namespace fewbits::cli {

/// "fewbits: warning: ..." on stderr.
void warn(std::string_view message);

/// One line each for up to a handful of warnings of one kind, then how many more there were.
void warn_all(const std::vector<std::string>& warnings);

/// Writes to stdout and notices when nobody can read it (a full disk, a closed pipe): Error.
void print(std::string_view text);
void print_json(const Json& json);

/// Most memory this process has had in RAM so far.
int64_t peak_memory_bytes();

/// Seconds since some start.
class Stopwatch {
 public:
  double seconds() const;

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// A bar with rate and time left on a terminal; elsewhere a plain line every ten seconds.
class Progress {
 public:
  explicit Progress(std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `detail` names what is being worked on. Cheap: prints a few times a second at most.
  void update(int64_t done, int64_t total, std::string_view detail = {});

  /// Removes the bar from the terminal.
  void finish();

 private:
  void draw(double fraction, std::string_view detail) const;

  std::string what_;
  Stopwatch clock_;
  bool terminal_;
  double next_ = 0;  ///< when to print again, in seconds
  bool drawn_ = false;
};

}  // namespace fewbits::cli

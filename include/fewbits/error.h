#pragma once

#include <stdexcept>

namespace fewbits {

/// What the world did wrong: a file, an argument, a full disk. The message is one line that says
/// where, what, the limit and what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Work stopped because the user asked for it (Ctrl-C, SIGTERM).
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// A disk that is full or fails, a limit on the size of files: the same work can succeed later.
class DiskError : public Error {
 public:
  using Error::Error;
};

}  // namespace fewbits

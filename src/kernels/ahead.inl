// Asking for memory that will be read next. Left to itself a processor fetches little while it
// computes, and the time of both adds up.

/// Bytes between what is read and what is asked for.
constexpr int kAhead = 2048;

constexpr int64_t kLine = 64;

inline void ask_for(const uint8_t* bytes, int64_t count) {
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(bytes + i);
}

/// Of a long stream that is read at `at`, asks for `count` bytes that come soon, and has the
/// second-level cache ask for some that come later: the first-level cache waits for few lines at
/// once, too few for the time that memory takes to answer.
inline void stream_on(const uint8_t* at, int64_t count) {
  constexpr int kSoon = 1024, kLater = 4096, kSecondLevel = 2;
  ask_for(at + kSoon, count);
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(at + kLater + i, 0, kSecondLevel);
}

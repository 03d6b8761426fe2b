// Asking for memory that will be read next. Left to itself a processor fetches little while it
// computes, and the time of both adds up.

/// Bytes between what is read and what is asked for.
constexpr int kAhead = 2048;

inline void ask_for(const uint8_t* bytes, int64_t count) {
  constexpr int64_t kLine = 64;
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(bytes + i);
}

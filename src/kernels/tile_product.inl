// The product of tiles. Tiles 0 to 3: sums of two tiles of tokens by two panels; 4, 5: tokens; 6,
// 7: panels. The panels stay in the first-level cache, and what is streamed past them leaves them
// there: tokens loaded like the rest would take a third of the speed.

constexpr int kTileRowBytes = 64;

/// All eight tiles whole. Configured for each product and released after it: a thread whose tiles
/// are in their first state costs the system nothing to switch.
struct Tiles {
  Tiles() {
    struct alignas(64) Config {
      uint8_t palette = 1;
      uint8_t start_row = 0;
      uint8_t reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    const Config config;
    asm volatile("" ::"m"(config));
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// The compilers want the numbers of tiles as they are written, not as template arguments.

/// 32 columns of bfloats, sums of floats.
struct Bfloats {
  [[gnu::always_inline]] static void add_first_by_first() { _tile_dpbf16ps(0, 4, 6); }
  [[gnu::always_inline]] static void add_first_by_second() { _tile_dpbf16ps(1, 4, 7); }
  [[gnu::always_inline]] static void add_second_by_first() { _tile_dpbf16ps(2, 5, 6); }
  [[gnu::always_inline]] static void add_second_by_second() { _tile_dpbf16ps(3, 5, 7); }
};

/// 64 columns of int8, sums of int32.
struct Codes {
  [[gnu::always_inline]] static void add_first_by_first() { _tile_dpbssd(0, 4, 6); }
  [[gnu::always_inline]] static void add_first_by_second() { _tile_dpbssd(1, 4, 7); }
  [[gnu::always_inline]] static void add_second_by_first() { _tile_dpbssd(2, 5, 6); }
  [[gnu::always_inline]] static void add_second_by_second() { _tile_dpbssd(3, 5, 7); }
};

/// 32 tokens, or the last 16. Three in four loads come while the unit is at work.
template <class Kind, bool kBoth>
[[gnu::always_inline]] inline void multiply_tokens(const TileTask& task, const uint8_t* tokens,
                                                   float* out) {
  float* out_second = out + 2 * kTileSums;
  if (task.accumulate) {
    _tile_stream_loadd(0, out, kTileRowBytes);
    _tile_stream_loadd(1, out + kTileSums, kTileRowBytes);
    if constexpr (kBoth) {
      _tile_stream_loadd(2, out_second, kTileRowBytes);
      _tile_stream_loadd(3, out_second + kTileSums, kTileRowBytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int i = 0; i < task.term_count; ++i) {
    const uint8_t* inputs = tokens + task.terms[i].inputs;
    const uint8_t* first = task.panels[0] + task.terms[i].panels;
    const uint8_t* second = task.panels[1] + task.terms[i].panels;
    for (int64_t k = 0; k < task.steps * kTileBytes; k += kTileBytes) {
      _tile_stream_loadd(4, inputs + k, kTileRowBytes);
      _tile_loadd(6, first + k, kTileRowBytes);
      Kind::add_first_by_first();
      _tile_loadd(7, second + k, kTileRowBytes);
      Kind::add_first_by_second();
      if constexpr (kBoth) {
        _tile_stream_loadd(5, inputs + task.input_stride + k, kTileRowBytes);
        Kind::add_second_by_first();
        Kind::add_second_by_second();
      }
    }
  }
  _tile_stored(0, out, kTileRowBytes);
  _tile_stored(1, out + kTileSums, kTileRowBytes);
  if constexpr (kBoth) {
    _tile_stored(2, out_second, kTileRowBytes);
    _tile_stored(3, out_second + kTileSums, kTileRowBytes);
  }
}

/// The tile instructions do not tell the compiler what memory they read and write.
inline void finish_memory() {
  asm volatile("" ::: "memory");
}

template <class Kind>
void multiply_tiles(const TileTask& task) {
  finish_memory();
  const Tiles tiles;
  int64_t t = 0;
  for (; t + 2 <= task.token_tiles; t += 2)
    multiply_tokens<Kind, true>(task, task.inputs + t * task.input_stride,
                                task.out + t * 2 * kTileSums);
  if (t < task.token_tiles)
    multiply_tokens<Kind, false>(task, task.inputs + t * task.input_stride,
                                 task.out + t * 2 * kTileSums);
  finish_memory();
}

double probe_tiles(int64_t rounds, float* sink) {
  const Tiles tiles;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t round = 0; round < rounds; ++round) {
    Bfloats::add_first_by_first();
    Bfloats::add_first_by_second();
    Bfloats::add_second_by_first();
    Bfloats::add_second_by_second();
  }
  alignas(64) float sums[kTileSums];
  _tile_stored(0, sums, kTileRowBytes);
  *sink = sums[0];
  return 4.0 * 2 * kTileSums * kTileColumns * static_cast<double>(rounds);
}

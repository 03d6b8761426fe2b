// What this machine can do at best: the limits that speeds are measured against.

/// Runs `rounds` times 12 independent fused multiply-adds; returns the floating-point operations
/// done. `sink` keeps the compiler from dropping them.
double probe_fma(int64_t rounds, float* sink) {
  constexpr int kChains = 12;  // two units times a latency of four or five
  F sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = broadcast(static_cast<float>(i));
  F factor = broadcast(0.5f);
  for (int64_t round = 0; round < rounds; ++round) {
    opaque(factor);
    for (int i = 0; i < kChains; ++i) sums[i] = fma(sums[i], factor, factor);
  }
  for (int i = 1; i < kChains; ++i) sums[0] = sums[0] + sums[i];
  *sink = sum(sums[0]);
  return 2.0 * kLanes * kChains * static_cast<double>(rounds);
}

/// The same for products of int8 added up exactly in 32 bits, as codes of seven bits allow without
/// a detour.
double probe_int8(int64_t rounds, float* sink) {
  constexpr int kChains = 12;
  const uint8_t ones[4 * kLanes] = {};
  I sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = widen(no_products());
  B codes = load_quads(ones);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int i = 0; i < kChains; ++i) {
      opaque(codes);
      sums[i] = add_products(sums[i], codes, codes);
    }
  }
  for (int i = 1; i < kChains; ++i) sums[0] = plus(sums[0], sums[i]);
  *sink = sum(to_float(sums[0]));
  return 2.0 * 4 * kLanes * kChains * static_cast<double>(rounds);
}

/// Reads `bytes` bytes, a multiple of 4096: two streams, asked for ahead, which is what memory
/// delivers most to.
void probe_read(const uint8_t* data, int64_t bytes, float* sink) {
  constexpr int64_t kStep = 4 * kLanes;
  const uint8_t* half = data + bytes / 2;
  B sums[4] = {load_quads(data), load_quads(data), load_quads(data), load_quads(data)};
  for (int64_t i = 0; i < bytes / 2; i += 2 * kStep) {
    ask_for(data + i + kAhead, 2 * kStep);
    ask_for(half + i + kAhead, 2 * kStep);
    for (int j = 0; j < 2; ++j) {
      sums[j] = sums[j] ^ load_quads(data + i + j * kStep);
      sums[2 + j] = sums[2 + j] ^ load_quads(half + i + j * kStep);
    }
  }
  uint8_t rest[kStep];
  store_quads(rest, sums[0] ^ sums[1] ^ sums[2] ^ sums[3]);
  *sink = rest[0];
}

// Operations on single vectors of floats.

inline F load_part(const float* in, int64_t count) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = in[i];
  return load(lanes);
}

inline void store_part(float* out, F value, int64_t count) {
  float lanes[kLanes];
  store(lanes, value);
  for (int64_t i = 0; i < count; ++i) out[i] = lanes[i];
}

/// out[i] = operation(a[i], b[i])
template <class Operation>
void for_pairs(const float* a, const float* b, int64_t count, float* out, Operation operation) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, operation(load(a + i), load(b + i)));
  if (i == count) return;
  const int64_t rest = count - i;
  store_part(out + i, operation(load_part(a + i, rest), load_part(b + i, rest)), rest);
}

/// e^x within 1.2 units in the last place (with a fused fma; 2 without); 0 below -87, no overflow:
/// at most e^88. x = n ln 2 + r, |r| <= ln 2 / 2; e^r = 1 + r + r^2 q(r), q fitted for the least
/// relative error (3e-9).
inline F exponential(F x) {
  constexpr float kLowest = -87.0f;
  const F bounded = maximum(broadcast(kLowest), minimum(broadcast(88.0f), x));
  const F n = round_even(bounded * broadcast(0x1.715476p+0f));
  // ln 2 in two parts; the first has 9 bits, so that n times it is exact even without a fused fma.
  const F r = fma(n, broadcast(0x1.bd0105p-13f), fma(n, broadcast(-0x1.63p-1f), bounded));
  F q = broadcast(0x1.6a23d0p-10f);
  q = fma(q, r, broadcast(0x1.123a20p-7f));
  q = fma(q, r, broadcast(0x1.5558f2p-5f));
  q = fma(q, r, broadcast(0x1.555492p-3f));
  q = fma(q, r, broadcast(0x1.fffffcp-2f));
  const F result = fma(q, r * r, r) + broadcast(1.0f);
  return zero_below(result * power_of_two(n), x, kLowest);
}

void halves_to_floats(const uint16_t* in, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, load_half(in + i));
  uint16_t rest[kLanes] = {};
  for (int64_t j = i; j < count; ++j) rest[j - i] = in[j];
  if (i < count) store_part(out + i, load_half(rest), count - i);
}

void floats_to_halves(const float* in, int64_t count, uint16_t* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store_half(out + i, load(in + i));
  if (i == count) return;
  uint16_t rest[kLanes];
  store_half(rest, load_part(in + i, count - i));
  for (int64_t j = i; j < count; ++j) out[j] = rest[j - i];
}

void bfloats_to_floats(const uint16_t* in, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, load_bfloat(in + i));
  uint16_t rest[kLanes] = {};
  for (int64_t j = i; j < count; ++j) rest[j - i] = in[j];
  if (i < count) store_part(out + i, load_bfloat(rest), count - i);
}

/// Four sums side by side hide the latency of the fma.
float dot(const float* a, const float* b, int64_t count) {
  F sums[4] = {broadcast(0), broadcast(0), broadcast(0), broadcast(0)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) {
      sums[j] = fma(load(a + i + j * kLanes), load(b + i + j * kLanes), sums[j]);
    }
  }
  for (; i < count; i += kLanes) {
    const int64_t rest = count - i < kLanes ? count - i : kLanes;
    sums[0] = fma(load_part(a + i, rest), load_part(b + i, rest), sums[0]);
  }
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

void rms_norm(const float* x, const float* gain, float epsilon, int64_t count, float* out) {
  const float mean = dot(x, x, count) / static_cast<float>(count);
  const F scale = broadcast(1.0f / __builtin_sqrtf(mean + epsilon));
  for_pairs(x, gain, count, out, [scale](F value, F factor) { return value * scale * factor; });
}

float largest_of(const float* x, int64_t count) {
  F best = broadcast(x[0]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) best = maximum(best, load(x + i));
  float result = largest(best);
  for (; i < count; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

void softmax(float* x, int64_t count) {
  const F highest = broadcast(largest_of(x, count));
  F total = broadcast(0);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const F value = exponential(load(x + i) - highest);
    store(x + i, value);
    total = total + value;
  }
  float all = sum(total);
  const int64_t rest = count - i;
  if (rest > 0) {
    float lanes[kLanes];
    store(lanes, exponential(load_part(x + i, rest) - highest));
    for (int64_t j = 0; j < rest; ++j) {
      x[i + j] = lanes[j];
      all += lanes[j];
    }
  }
  const F inverse = broadcast(1.0f / all);
  for_pairs(x, x, count, x, [inverse](F value, F) { return value * inverse; });
}

void silu_multiply(const float* gate, const float* up, int64_t count, float* out) {
  for_pairs(gate, up, count, out,
            [](F g, F u) { return g / (broadcast(1.0f) + exponential(broadcast(0) - g)) * u; });
}

void add(float* a, const float* b, int64_t count) {
  for_pairs(a, b, count, a, [](F x, F y) { return x + y; });
}

void rope_halves(float* x, const float* cosines, const float* sines, int64_t count) {
  const int64_t half = count / 2;
  for (int64_t i = 0; i < half; i += kLanes) {
    const int64_t n = half - i < kLanes ? half - i : kLanes;
    const F c = load_part(cosines + i, n);
    const F s = load_part(sines + i, n);
    const F low = load_part(x + i, n);
    const F high = load_part(x + half + i, n);
    store_part(x + i, low * c - high * s, n);
    store_part(x + half + i, high * c + low * s, n);
  }
}

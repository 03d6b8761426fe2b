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

void layer_norm(const NormTask& task) {
  const int64_t count = task.count;
  F total = broadcast(0);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) total = total + load(task.x + i);
  if (i < count) total = total + load_part(task.x + i, count - i);
  const F mean = broadcast(sum(total) / static_cast<float>(count));
  for_pairs(task.x, task.x, count, task.out, [mean](F value, F) { return value - mean; });
  const float variance = dot(task.out, task.out, count) / static_cast<float>(count);
  const F scale = broadcast(1.0f / __builtin_sqrtf(variance + task.epsilon));
  for_pairs(task.out, task.gain, count, task.out,
            [scale](F value, F factor) { return value * scale * factor; });
  if (task.bias == nullptr) return;
  for_pairs(task.out, task.bias, count, task.out, [](F value, F bias) { return value + bias; });
}

float largest_of(const float* x, int64_t count) {
  F best = broadcast(x[0]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) best = maximum(best, load(x + i));
  float result = largest(best);
  const int64_t rest = count - i;
  for (int64_t j = 0; j < rest; ++j) result = x[i + j] > result ? x[i + j] : result;
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

/// Exact to a few units in the last place of 1: 1 - 2 / (e^2x + 1).
inline F hyperbolic_tangent(F x) {
  const F power = exponential(x + x);
  return broadcast(1.0f) - broadcast(2.0f) / (power + broadcast(1.0f));
}

/// Applies `operation` to every value, in place.
template <class Operation>
void for_each(float* x, int64_t count, Operation operation) {
  for_pairs(x, x, count, x, [operation](F value, F) { return operation(value); });
}

void silu(float* x, int64_t count) {
  for_each(x, count, [](F g) { return g / (broadcast(1.0f) + exponential(broadcast(0) - g)); });
}

void relu(float* x, int64_t count) {
  for_each(x, count, [](F value) { return maximum(value, broadcast(0)); });
}

/// erfc(z) for z >= 0 by Abramowitz and Stegun 7.1.26, good to 1.5e-7.
inline F complementary_error(F z) {
  const F t = broadcast(1.0f) / fma(z, broadcast(0.3275911f), broadcast(1.0f));
  F p = broadcast(1.061405429f);
  p = fma(p, t, broadcast(-1.453152027f));
  p = fma(p, t, broadcast(1.421413741f));
  p = fma(p, t, broadcast(-0.284496736f));
  p = fma(p, t, broadcast(0.254829592f));
  return p * t * exponential(broadcast(0) - z * z);
}

void gelu(float* x, int64_t count) {
  for_each(x, count, [](F value) {
    const F magnitude = maximum(value, broadcast(0) - value);
    const F tail = complementary_error(magnitude * broadcast(0.70710678f)) * broadcast(0.5f);
    // x Phi(x) is max(x, 0) less what the tail takes, for either sign.
    return maximum(value, broadcast(0)) - magnitude * tail;
  });
}

void gelu_tanh(float* x, int64_t count) {
  for_each(x, count, [](F value) {
    const F cubic = fma(value * value, broadcast(0.044715f), broadcast(1.0f)) * value;
    const F doubled = cubic * broadcast(2 * 0.7978845608f);  // 2 sqrt(2 / pi)
    // (1 + tanh(y)) / 2 = 1 / (1 + e^-2y)
    return value / (broadcast(1.0f) + exponential(broadcast(0) - doubled));
  });
}

void soft_cap(float* x, float cap, int64_t count) {
  const F limit = broadcast(cap), inverse = broadcast(1.0f / cap);
  for_each(x, count, [=](F value) { return limit * hyperbolic_tangent(value * inverse); });
}

void multiply(float* a, const float* b, int64_t count) {
  for_pairs(a, b, count, a, [](F x, F y) { return x * y; });
}

void add_scaled(float* a, const float* b, float scale, int64_t count) {
  const F factor = broadcast(scale);
  for_pairs(a, b, count, a, [factor](F x, F y) { return fma(factor, y, x); });
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

#include "kernels/activations.h"

#include <algorithm>

#include "base/checked_math.h"
#include "base/error.h"
#include "formats/bit_planes.h"
#include "kernels/tile_matmul.h"

namespace fewbits {
namespace {

/// Cuts one allocation into the arrays of BlockInputs, each on a cache line of its own.
class Cutter {
 public:
  explicit Cutter(std::byte* memory) : next_(memory) {}

  template <class Value>
  Value* take(int64_t count) {
    auto* values = reinterpret_cast<Value*>(next_);
    next_ += round_up(count * static_cast<int64_t>(sizeof(Value)), 64);
    return values;
  }

 private:
  std::byte* next_;
};

BlockInputs cut(std::byte* memory, int64_t values, int64_t side_by_side) {
  Cutter cutter(memory);
  BlockInputs inputs{};
  inputs.side_by_side = side_by_side;
  inputs.codes = cutter.take<int8_t>(values);
  inputs.scales = cutter.take<float>(values / 32);
  inputs.less32 = cutter.take<int32_t>(values / 32);
  inputs.less16 = cutter.take<int32_t>(values / 16);
  inputs.scaled_sums32 = cutter.take<float>(values / 32);
  inputs.scaled_sums16 = cutter.take<float>(values / 16);
  return inputs;
}

/// A byte for each value, 12 and 16 for each 32 values, and the rounding of six arrays.
int64_t bytes_for(int64_t values) {
  return values + values / 32 * 28 + 6 * 64;
}

/// Values that one task turns to int8: less is not worth waking a thread for.
constexpr int64_t kTaskValues = 16384;

}  // namespace

Activations::Activations() : impl_(std::make_unique<Impl>()) {}
Activations::~Activations() = default;

void Activations::assign(const float* values, int64_t tokens, int64_t columns, CodeScales scales) {
  check(tokens >= 0 && columns > 0);
  impl_->values = values;
  impl_->tokens = tokens;
  impl_->columns = columns;
  impl_->scales = scales;
  impl_->blocks_ready = false;
  for (auto& shifts : impl_->starts) {
    for (Impl::Starts& starts : shifts) starts.ready = false;
  }
  impl_->floats_ready = false;
  for (Impl::Tiles& tiles : impl_->tiles) tiles.ready = false;
}

const float* Activations::values() const {
  return impl_->values;
}
int64_t Activations::tokens() const {
  return impl_->tokens;
}
int64_t Activations::columns() const {
  return impl_->columns;
}

void Activations::Impl::make_blocks(ThreadPool& pool) {
  if (blocks_ready) return;
  check(columns % kBlockValues == 0);
  const int64_t side = tokens == 1 || go_by_tiles(tokens) ? 1 : kSideBySide;
  const int64_t values_kept = round_up(tokens, side) * columns;
  block_memory.reserve(bytes_for(values_kept));
  blocks = cut(block_memory.data(), values_kept, side);
  const int64_t step = round_up(std::max<int64_t>(1, kTaskValues / columns), side);
  pool.run(divide_up(tokens, step), [&](int64_t task, int) {
    const int64_t end = std::min(tokens, (task + 1) * step);
    for (int64_t t = task * step; t < end; ++t) {
      kernels().quantize_inputs(values + t * columns, columns, scales,
                                inputs_at(blocks, columns, t, 0));
    }
  });
  blocks_ready = true;
}

void Activations::Impl::make_starts(const BlockLayout& layout) {
  if (layout.zero_shift == kNoZero) return;
  Starts& made = starts[layout.sub_blocks - 1][layout.zero_shift];
  if (made.ready) return;
  const int64_t kept = round_up(tokens, blocks.side_by_side) * columns;
  made.sums.resize(static_cast<size_t>(kept / kBlockValues * layout.sub_blocks));
  kernels().start_sums(layout.sub_blocks == 1 ? blocks.less32 : blocks.less16,
                       std::ssize(made.sums), layout.zero_shift, made.sums.data());
  made.ready = true;
}

const int32_t* Activations::Impl::starts_at(const BlockLayout& layout, int64_t column) const {
  if (layout.zero_shift == kNoZero) return nullptr;
  return starts[layout.sub_blocks - 1][layout.zero_shift].sums.data() +
         column / kBlockValues * layout.sub_blocks * blocks.side_by_side;
}

void Activations::Impl::make_side_by_side(ThreadPool& pool) {
  if (floats_ready) return;
  const int64_t groups = divide_up(tokens, int64_t{kSideBySide}), size = kSideBySide * columns;
  floats.reserve(groups * size * static_cast<int64_t>(sizeof(float)));
  pool.run(groups, [&](int64_t group, int) {
    const int64_t first = group * kSideBySide, rest = tokens - first;
    kernels().lay_side_by_side(values + first * columns, columns,
                               std::min<int64_t>(rest, kSideBySide), columns,
                               reinterpret_cast<float*>(floats.data()) + group * size);
  });
  floats_ready = true;
}

const uint8_t* Activations::Impl::tile_data(TileForm form) const {
  return as_bytes(tiles[static_cast<size_t>(form)].memory.data());
}

int64_t Activations::Impl::tile_stride(TileForm form) const {
  return kTileTokens * columns * (form == TileForm::kCodes ? 1 : 2);
}

void Activations::Impl::make_tiles(TileForm form, ThreadPool& pool) {
  Tiles& made = tiles[static_cast<size_t>(form)];
  if (made.ready) return;
  const bool codes = form == TileForm::kCodes, integers = form == TileForm::kIntegers;
  check(columns % (codes ? kTileCodes : kTileColumns) == 0 && kernels().tiles != nullptr);
  if (codes || integers) make_blocks(pool);
  const int64_t count = divide_up(tokens, kTileTokens), stride = tile_stride(form);
  made.memory.reserve(count * stride * (form == TileForm::kParts ? 2 : 1));
  pool.run(count, [&](int64_t tile, int) {
    const TileKernels& kernel = *kernels().tiles;
    const int64_t rows = std::min(kTileTokens, tokens - tile * kTileTokens);
    const int64_t first = tile * kTileTokens * columns;
    std::byte* out = made.memory.data() + tile * stride;
    auto* bfloats = reinterpret_cast<uint16_t*>(out);
    if (codes) {
      kernel.tile_codes(blocks.codes + first, rows, columns, reinterpret_cast<int8_t*>(out));
    } else if (integers) {
      const std::vector<float> whole(blocks.codes + first, blocks.codes + first + rows * columns);
      kernel.tile_inputs(whole.data(), rows, columns, {bfloats, 0, 1});
    } else {
      const int parts = form == TileForm::kParts ? 2 : 1;
      kernel.tile_inputs(values + first, rows, columns,
                         {bfloats, count * stride / static_cast<int64_t>(sizeof(uint16_t)), parts});
    }
  });
  made.ready = true;
}

BlockInputs inputs_at(const BlockInputs& all, int64_t columns, int64_t token, int64_t column) {
  const int64_t side = all.side_by_side, lane = token % side;
  const int64_t at = token / side * side * columns + column * side;  // of the group
  return {all.codes + at + 4 * lane,
          all.scales + at / 32 + lane,
          all.less32 + at / 32 + lane,
          all.less16 + at / 16 + lane,
          all.scaled_sums32 + at / 32 + lane,
          all.scaled_sums16 + at / 16 + lane,
          side};
}

}  // namespace fewbits

// One matrix product a fixed number of times, by one thread, and nothing that depends on time: for
// tools that count instructions (instructions.py).
//
//   instructions_bench FORMAT TOKENS TIMES
#include <cstdlib>
#include <vector>

#include "base/normal_values.h"
#include "kernels/matmul.h"

namespace fewbits {
namespace {

constexpr int64_t kRows = 256, kColumns = 1024;

void run(const Format& format, int64_t tokens, int64_t times) {
  ThreadPool pool(1);
  std::vector<std::byte> encoded(static_cast<size_t>(kRows * row_bytes(format, kColumns)));
  encode_rows(format, normal_values(kRows * kColumns, 1).data(), kRows, kColumns, nullptr,
              Search::kReference, encoded.data());
  const TensorView view{&format, {kRows, kColumns}, encoded};
  const PackedMatrix matrix = PackedMatrix::pack(view, {}, {}, pool);
  const auto inputs = normal_values(tokens * kColumns, 2);
  std::vector<float> out(static_cast<size_t>(tokens * kRows));
  Activations activations;
  for (int64_t i = 0; i < times; ++i) {
    activations.assign(inputs.data(), tokens, kColumns);
    const MatrixProduct product{&matrix, out.data(), kRows};
    multiply({&product, 1}, activations, pool);
  }
}

}  // namespace
}  // namespace fewbits

int main(int argc, char** argv) {
  if (argc != 4) return 1;
  fewbits::run(fewbits::format_named(argv[1]), std::atoll(argv[2]), std::atoll(argv[3]));
}

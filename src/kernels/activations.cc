#include "kernels/activations.h"

#include "base/error.h"

namespace fewbits {

Activations::Activations() : impl_(std::make_unique<Impl>()) {}
Activations::~Activations() = default;

void Activations::assign(const float* values, int64_t tokens, int64_t columns) {
  check(tokens >= 0 && columns > 0);
  impl_->values = values;
  impl_->tokens = tokens;
  impl_->columns = columns;
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

}  // namespace fewbits

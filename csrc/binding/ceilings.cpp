// The measurements of the second-level cache: a tensor in, kernels launched, a tensor out.
#include "ceilings/operator.h"

#include "binding/operators.h"

namespace dyhead {

static void expect_packs(const Tensor& memory) {
  expect(memory, "memory", {memory.numel()}, ScalarType::Float, memory);
  STD_TORCH_CHECK(memory.numel() % 4 == 0 && is_aligned(buffer(memory, "memory")),
                  "'memory' must consist of whole packs of 16 bytes");
}

Tensor l2_read(Tensor memory, int64_t repeats) {
  expect_packs(memory);
  const OnDevice device(memory);
  const Tensor sums = torch::stable::new_empty(memory, Sizes{ceilings::threads()});
  ceilings::read(buffer(memory, "memory"), int(repeats), buffer(sums, "sums"), device.stream);
  return sums;
}

Tensor l2_add(Tensor memory, int64_t repeats) {
  expect_packs(memory);
  const OnDevice device(memory);
  const Tensor sums = zeros_like(memory, ScalarType::Float);
  ceilings::add(buffer(sums, "sums"), int(repeats), device.stream);
  return sums;
}

}  // namespace dyhead

// Launches the kernel that rounds factors before they are multiplied.
#include "common/launch.cuh"
#include "common/tensor_core.cuh"
#include "deform_conv/operator.h"

namespace dyhead::deform_conv {

/// A thread rounds one number.
__global__ void round_to(Global<const float> from, Global<float> to, int64_t count) {
  for (int64_t i = thread_number(); i < count; i += thread_count())
    store(to, i, factor_of(load(from, i), TypeTag<Tf32>()));
}

void round_all_to_tf32(Buffer from, Buffer to, void* stream) {
  launch(over(from.size, stream), KERNEL(round_to), global<const float>(from), global<float>(to), from.size);
}

}  // namespace dyhead::deform_conv

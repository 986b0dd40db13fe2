// Launches the kernels that measure the second-level cache.
#include "ceilings/kernels.cuh"
#include "ceilings/operator.h"
#include "common/launch.cuh"

namespace dyhead::ceilings {

int64_t threads() { return resident_blocks(kThreads) * kThreads; }

static Launch everywhere(void* stream) { return over(threads(), stream); }

void read(Buffer memory, int repeats, Buffer sums, void* stream) {
  launch(everywhere(stream), KERNEL(read_packs), global<const float>(memory), memory.size / 4, repeats,
         global<float>(sums));
}

void add(Buffer memory, int repeats, void* stream) {
  launch(everywhere(stream), KERNEL(add_packs), global<float>(memory), memory.size / 4, repeats);
}

}  // namespace dyhead::ceilings

// Where a thread stands in its block and grid.
#pragma once

#include "emulator/types.h"

namespace emulator {

/// What a thread that runs can ask about itself; the scheduler sets it before it enters a fiber.
struct Coordinates {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
inline Coordinates here;

/// How many multiprocessors the emulated GPU claims to have: launches share their work out by it.
inline int64_t multiprocessors = 1;

/// Ten times the compute capability that it claims: kernels take the instructions that such a GPU has.
inline int compute_capability = 80;

}  // namespace emulator

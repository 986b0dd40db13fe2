// What the second-level cache of a GPU can do at best, as the binding sees it. No torch, no CUDA.
#pragma once

#include "common/interface.h"

namespace dyhead::ceilings {

/// How many threads share the work, on the current GPU: as many as it can hold.
int64_t threads();

/// Read `memory` (float32, a multiple of 4 elements) `repeats` times. `sums` has an element for every thread.
void read(Buffer memory, int repeats, Buffer sums, void* stream);

/// Add 1 to every element of `memory` (float32, a multiple of 4 elements) `repeats` times.
void add(Buffer memory, int repeats, void* stream);

}  // namespace dyhead::ceilings

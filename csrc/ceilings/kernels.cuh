// Nothing but reads, and nothing but atomic additions: 16 bytes each, as the operators' fast kernels do them.
#pragma once

#include "common/words.cuh"

namespace dyhead::ceilings {

/// A thread reads every `thread_count()`-th pack of 16 bytes, past the first-level cache, and stores the sum of all.
__global__ void read_packs(Global<const float> memory, int64_t packs, int repeats, Global<float> sums) {
  float sum = 0;
  for (int repeat = 0; repeat < repeats; ++repeat)
    for (int64_t i = thread_number(); i < packs; i += thread_count()) {
      float pack[4];
      unpack<float>(load_words_past_l1(memory, 4 * i), pack);
      sum += (pack[0] + pack[1]) + (pack[2] + pack[3]);
    }
  store(sums, thread_number(), sum);
}

/// A thread adds ones to every `thread_count()`-th pack of 16 bytes. No two threads meet at a pack.
__global__ void add_packs(Global<float> memory, int64_t packs, int repeats) {
  const float ones[4] = {1, 1, 1, 1};
  for (int repeat = 0; repeat < repeats; ++repeat)
    for (int64_t i = thread_number(); i < packs; i += thread_count()) atomic_add4(memory, 4 * i, ones);
}

}  // namespace dyhead::ceilings

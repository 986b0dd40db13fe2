// A warp: the number of a lane, and values that lanes exchange.
#pragma once

#include "emulator/block.h"

namespace emulator {

/// Every lane in `mask` gives `value` and receives the value of lane `source`.
template <class T>
inline T exchange(unsigned mask, T value, unsigned source) {
  struct Payload {
    T given, received;
    unsigned source;
  } mine{value, value, source};
  Block::current().collective(mask, &mine, [](Payloads lanes) {
    for (void* lane : lanes) {
      auto* payload = static_cast<Payload*>(lane);
      if (!payload) continue;
      const auto* from = static_cast<const Payload*>(lanes[payload->source % kWarpSize]);
      if (!from) throw std::logic_error("a shuffle reads from a lane that its mask leaves out");
      payload->received = from->given;
    }
  });
  return mine.received;
}

inline unsigned lane() {
  const dim3& size = here.block_size;
  return (here.thread.x + size.x * (here.thread.y + size.y * here.thread.z)) % kWarpSize;
}

}  // namespace emulator

// In which order blocks and threads run: one after the other, or, given a seed, at random.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace emulator {

class Order {
 public:
  /// 0: in order, and nobody is interrupted.
  void seed(uint64_t seed) { seed_ = state_ = seed; }

  /// 0 .. count - 1 as they come this time.
  const std::vector<size_t>& blocks(size_t count) { return arranged(blocks_, count); }
  const std::vector<size_t>& threads(size_t count) { return arranged(threads_, count); }

  /// True now and then: the thread that runs is taken off.
  bool interrupts() { return seed_ != 0 && random() % 8 == 0; }

 private:
  const std::vector<size_t>& arranged(std::vector<size_t>& all, size_t count) {
    all.resize(count);
    for (size_t n = 0; n < count; ++n) all[n] = n;
    if (seed_ != 0)
      for (size_t n = count; n > 1; --n) std::swap(all[n - 1], all[random() % n]);
    return all;
  }

  /// splitmix64
  uint64_t random() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }

  uint64_t seed_ = 0, state_ = 0;
  std::vector<size_t> blocks_, threads_;
};

}  // namespace emulator

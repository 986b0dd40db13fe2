// The debug build's witness: it sees every access to global memory, refuses one outside its buffer, and writes down
// those of the threads that someone asked about.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulator/block.h"

namespace emulator {

enum class Operation : int32_t { read = 0, write = 1, atomic_add = 2 };

/// One access of one thread: `count` neighbouring elements of `buffer` from `index` on. Python reads this layout.
struct Access {
  const char* buffer;
  int64_t index;
  double value;  // of the first element: what was read, written or added
  int32_t count;
  Operation operation;
  int32_t launch;  // how many kernels were launched before this one since recording began
  int32_t thread;  // linear index in the block
};

class Observer {
 public:
  static Observer& get() {
    static Observer observer;
    return observer;
  }

  /// Record threads first..last of block `block` (linear index in the grid) from now on.
  void begin(int64_t block, int64_t first, int64_t last) {
    accesses_.clear();
    launch_ = -1;
    block_ = block, first_ = first, last_ = last;
    recording_ = true;
  }
  void end() { recording_ = false; }
  void next_launch(const char* kernel) {
    kernel_ = kernel;
    ++launch_;
    ++launches_[kernel];
  }
  /// How often each kernel was launched since the library was loaded, by its name in the source.
  const std::map<std::string, int64_t>& launches() const { return launches_; }
  const std::vector<Access>& accesses() const { return accesses_; }
  /// The kernel that was launched last.
  const char* kernel() const { return kernel_; }

  void record(Operation operation, const char* buffer, int64_t index, int count, double value) {
    const int64_t thread = linear(here.thread, here.block_size);
    if (recording_ && linear(here.block, here.grid_size) == block_ && first_ <= thread && thread <= last_)
      accesses_.push_back({buffer, index, value, count, operation, launch_, int32_t(thread)});
  }

  /// Throws unless elements index .. index + count - 1 lie in a buffer of `size` elements.
  static void check(const char* buffer, int64_t size, int64_t index, int count) {
    if (index >= 0 && index + count <= size) return;
    throw std::out_of_range("block (" + name(here.block) + "), thread (" + name(here.thread) + ") touches " +
                            std::to_string(count) + " element(s) from index " + std::to_string(index) + " of '" +
                            buffer + "', which has " + std::to_string(size));
  }

  static std::string name(uint3 at) {
    return std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z);
  }

 private:
  static int64_t linear(uint3 at, dim3 size) { return at.x + int64_t(size.x) * (at.y + int64_t(size.y) * at.z); }

  std::vector<Access> accesses_;
  std::map<std::string, int64_t> launches_;
  int64_t block_ = 0, first_ = 0, last_ = -1;
  int32_t launch_ = -1;
  const char* kernel_ = "";
  bool recording_ = false;
};

}  // namespace emulator

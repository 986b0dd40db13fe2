// One block of threads on one CPU core: every thread is a fiber, and the scheduler goes round them.
//
// A thread runs until it must wait for others: at a block barrier, or in a warp collective (a shuffle, a vote, a matrix
// product). All warp collectives rest on one primitive, `Block::collective`. Given a seed, the scheduler takes blocks
// and threads in random order, and takes threads off wherever they touch shared memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "emulator/fiber.h"
#include "emulator/here.h"
#include "emulator/order.h"

namespace emulator {

constexpr unsigned kWarpSize = 32;

/// The payloads of a warp collective, one per lane; null where a lane does not take part.
using Payloads = void* const (&)[kWarpSize];

/// The dynamic shared memory of the block that runs. Behind it lie bytes that belong to nobody, so that who misses it
/// is recognised.
struct SharedMemory {
  static constexpr size_t kBehind = 4096;
  char* begin = nullptr;
  size_t bytes = 0;
  const char* name = "shared memory";  // in the kernel's source
};
inline SharedMemory shared_memory;

class Block {
 public:
  static Block& current() {
    static Block block;
    return block;
  }

  Order order;

  /// Run `kernel` in every thread of every block of the grid, block after block.
  void run_grid(dim3 grid_size, dim3 block_size, size_t shared_bytes, const std::function<void()>& kernel) {
    const std::lock_guard<std::mutex> one_grid_at_a_time(mutex_);
    here.grid_size = grid_size;
    here.block_size = block_size;
    resize(size_t(block_size.x) * block_size.y * block_size.z);
    for (const size_t n : order.blocks(size_t(grid_size.x) * grid_size.y * grid_size.z)) {
      here.block.x = unsigned(n % grid_size.x);
      here.block.y = unsigned(n / grid_size.x % grid_size.y);
      here.block.z = unsigned(n / grid_size.x / grid_size.y);
      shared_memory = {};
      shared_.assign((shared_bytes + SharedMemory::kBehind) / sizeof(float4) + 1, poison());
      shared_memory.begin = reinterpret_cast<char*>(shared_.data()), shared_memory.bytes = shared_bytes;
      run_block(kernel);
    }
    shared_memory = {};
  }

  /// `__syncthreads()`: wait until every thread that has not ended is here.
  void barrier() {
    threads_[running_].at_barrier = true;
    fibers_[running_]->leave();
  }

  /// `__syncwarp()`.
  void warp_barrier(unsigned mask) {
    collective(mask, nullptr, [](Payloads) {});
    ++threads_[running_].warp_barriers;
  }

  /// Given a seed, let others go first at random.
  void pause() {
    if (order.interrupts()) fibers_[running_]->leave();
  }

  /// The thread that runs can go no further, and nor can the launch, which throws this message. For where nothing may
  /// be thrown.
  void abandon(std::string message) {
    failure_ = std::move(message);
    fibers_[running_]->leave();
  }

  // Asynchronous copies: what is copied is not there before the thread waits for it.

  void begin_copy(void* target, const float4& value) {
    threads_[running_].copies.push_back({static_cast<float4*>(target), value});
    *static_cast<float4*>(target) = poison();
  }
  /// Call `arrive(target, value)` for each copy that the thread has begun.
  template <class Arrive>
  void finish_copies(const Arrive& arrive) {
    for (const auto& [target, value] : threads_[running_].copies) arrive(target, value);
    threads_[running_].copies.clear();
  }

  /// The thread that runs; the barriers passed, counted on through all blocks, now and when the block began; those of
  /// its warp that the thread has passed.
  int running() const { return int(running_); }
  uint64_t barriers() const { return barriers_; }
  uint64_t first_barrier() const { return first_barrier_; }
  unsigned warp_barriers() const { return threads_[running_].warp_barriers; }
  /// True while a thread works for others too, or in one piece: its accesses have been told.
  bool is_told = false;

  /// Wait until all lanes in `mask` are here. The last one to come runs `combine(payloads)` for all of them.
  template <class Combine>
  void collective(unsigned mask, void* payload, const Combine& combine) {
    Thread* warp = &threads_[running_ / kWarpSize * kWarpSize];
    const unsigned lane = running_ % kWarpSize;
    if (!(mask >> lane & 1)) throw std::logic_error("a lane calls a warp function with a mask that leaves it out");
    threads_[running_].waits_for = mask;
    threads_[running_].payload = payload;
    void* payloads[kWarpSize] = {};
    for (unsigned other = 0; other < kWarpSize; ++other)
      if (mask >> other & 1) {
        if (running_ / kWarpSize * kWarpSize + other >= threads_.size() || warp[other].waits_for != mask)
          return fibers_[running_]->leave();
        payloads[other] = warp[other].payload;
      }
    is_told = true;
    combine(payloads);
    is_told = false;
    for (unsigned other = 0; other < kWarpSize; ++other)
      if (mask >> other & 1) warp[other].waits_for = 0;
  }

  template <class T>
  T* dynamic_shared(const char* name) {
    shared_memory.name = name;
    return reinterpret_cast<T*>(shared_.data());
  }

 private:
  struct Thread {
    unsigned waits_for = 0;  // the mask of the warp collective it waits in; 0 if in none
    void* payload = nullptr;
    bool at_barrier = false;
    unsigned warp_barriers = 0;
    std::vector<std::pair<float4*, float4>> copies;  // begun, and not waited for
  };

  /// Fresh shared memory is full of NaN, so that a kernel that reads what nobody wrote gives itself away.
  static float4 poison() {
    const float nan = bit_cast<float>(0xffffffffu);
    return {nan, nan, nan, nan};
  }

  void resize(size_t threads) {
    threads_.resize(threads);
    while (fibers_.size() < threads) fibers_.push_back(std::make_unique<Fiber>());
  }

  void run_block(const std::function<void()>& kernel) {
    for (size_t thread = 0; thread < threads_.size(); ++thread) {
      threads_[thread] = Thread();
      fibers_[thread]->assign(&kernel);
    }
    first_barrier_ = ++barriers_, is_told = false;
    for (;;) {
      size_t entered = 0, ended = 0, at_barrier = 0;
      for (const size_t thread : order.threads(threads_.size())) {
        running_ = thread;
        if (can_run(running_)) {
          enter(running_);
          ++entered;
        }
        ended += fibers_[running_]->finished();
        at_barrier += threads_[running_].at_barrier;
      }
      if (ended == threads_.size()) return;
      if (ended + at_barrier == threads_.size()) {
        ++barriers_;
        for (Thread& thread : threads_) thread.at_barrier = false;
      } else if (entered == 0) {
        throw std::logic_error(
            "deadlock: some threads wait at __syncthreads or in a warp function that others of their block "
            "or warp "
            "never reach");
      }
    }
  }

  bool can_run(size_t thread) const {
    return !fibers_[thread]->finished() && !threads_[thread].at_barrier && threads_[thread].waits_for == 0;
  }

  void enter(size_t thread) {
    const dim3& size = here.block_size;
    here.thread.x = unsigned(thread % size.x);
    here.thread.y = unsigned(thread / size.x % size.y);
    here.thread.z = unsigned(thread / size.x / size.y);
    fibers_[thread]->enter();
    if (fibers_[thread]->error()) std::rethrow_exception(fibers_[thread]->error());
    if (!failure_.empty()) throw std::logic_error(std::exchange(failure_, {}));
  }

  std::mutex mutex_;
  std::vector<Thread> threads_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<float4> shared_;
  std::string failure_;
  size_t running_ = 0;
  uint64_t barriers_ = 0, first_barrier_ = 0;  // of the block that runs
};

}  // namespace emulator

// One block of threads on one CPU core: every thread is a fiber, and the scheduler goes round them.
//
// A thread runs until it must wait for others: at a block barrier, or in a warp collective (a shuffle, a vote, a matrix
// product). All warp collectives rest on one primitive, `Block::collective`.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulator/fiber.h"
#include "emulator/here.h"

namespace emulator {

constexpr unsigned kWarpSize = 32;

/// The payloads of a warp collective, one per lane; null where a lane does not take part.
using Payloads = void* const (&)[kWarpSize];

class Block {
 public:
  static Block& current() {
    static Block block;
    return block;
  }

  /// Run `kernel` in every thread of every block of the grid, block after block.
  void run_grid(dim3 grid_size, dim3 block_size, size_t shared_bytes, const std::function<void()>& kernel) {
    const std::lock_guard<std::mutex> one_grid_at_a_time(mutex_);
    here.grid_size = grid_size;
    here.block_size = block_size;
    resize(size_t(block_size.x) * block_size.y * block_size.z);
    for (unsigned z = 0; z < grid_size.z; ++z)
      for (unsigned y = 0; y < grid_size.y; ++y)
        for (unsigned x = 0; x < grid_size.x; ++x) {
          here.block.x = x, here.block.y = y, here.block.z = z;
          shared_.assign(shared_bytes / sizeof(float4) + 1, poison());
          run_block(kernel);
        }
  }

  /// `__syncthreads()`: wait until every thread that has not ended is here.
  void barrier() {
    threads_[running_].at_barrier = true;
    fibers_[running_]->leave();
  }

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
    combine(payloads);
    for (unsigned other = 0; other < kWarpSize; ++other)
      if (mask >> other & 1) warp[other].waits_for = 0;
  }

  template <class T>
  T* dynamic_shared() {
    return reinterpret_cast<T*>(shared_.data());
  }

 private:
  struct Thread {
    unsigned waits_for = 0;  // the mask of the warp collective it waits in; 0 if in none
    void* payload = nullptr;
    bool at_barrier = false;
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
    for (;;) {
      size_t entered = 0, ended = 0, at_barrier = 0;
      for (running_ = 0; running_ < threads_.size(); ++running_) {
        if (can_run(running_)) {
          enter(running_);
          ++entered;
        }
        ended += fibers_[running_]->finished();
        at_barrier += threads_[running_].at_barrier;
      }
      if (ended == threads_.size()) return;
      if (ended + at_barrier == threads_.size()) {
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
  }

  std::mutex mutex_;
  std::vector<Thread> threads_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<float4> shared_;
  size_t running_ = 0;
};

}  // namespace emulator

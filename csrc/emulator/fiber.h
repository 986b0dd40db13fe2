// A fiber: a function with a stack of its own that can be left in the middle and entered again.
//
// `makecontext` lays out the stack once, portably. The switches after that are `_setjmp` and `_longjmp`, which cost a
// few nanoseconds because they leave the signal mask alone.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <exception>
#include <functional>
#include <memory>
#include <utility>

namespace emulator {

class Fiber {
 public:
  static constexpr size_t kStackBytes = 128 * 1024;

  Fiber() : stack_(new char[kStackBytes]) {}

  /// Give the fiber its next piece of work. If the one before has not ended it is abandoned.
  void assign(const std::function<void()>* work) {
    if (!finished_) started_ = false;
    work_ = work;
    error_ = nullptr;
    finished_ = false;
  }

  /// Run until the work ends or calls `leave`.
  void enter() {
    if (_setjmp(outside_)) return;
    if (started_) _longjmp(inside_, 1);
    started_ = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack_.get();
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    const auto address = reinterpret_cast<uintptr_t>(this);
    makecontext(&context, reinterpret_cast<void (*)()>(&Fiber::main), 2, unsigned(address >> 32), unsigned(address));
    setcontext(&context);
  }

  /// Called inside the fiber: go back to the caller of `enter`.
  void leave() {
    if (_setjmp(inside_) == 0) _longjmp(outside_, 1);
  }

  bool finished() const { return finished_; }
  std::exception_ptr error() const { return error_; }

 private:
  static void main(unsigned high, unsigned low) {
    auto* self = reinterpret_cast<Fiber*>((uintptr_t(high) << 32) | low);
    for (;;) {
      try {
        (*self->work_)();
      } catch (...) {
        self->error_ = std::current_exception();
      }
      self->finished_ = true;
      self->leave();
    }
  }

  std::unique_ptr<char[]> stack_;
  const std::function<void()>* work_ = nullptr;
  std::exception_ptr error_;
  bool finished_ = true, started_ = false;
  jmp_buf inside_, outside_;
};

}  // namespace emulator

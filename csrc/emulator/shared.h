// Shared memory, watched: the debug build sees every access to it and names threads that race.
//
// Two accesses of two threads to one byte race if one of them writes and nothing orders them: no barrier of their
// block, no `__syncwarp` of their warp. Shuffles and matrix products order nothing, as CUDA says. Bytes that an
// asynchronous copy is still writing belong to it until its thread has waited. All this does not depend on the order in
// which the emulator happens to run.
//
// The compiler announces accesses (announced.h); races.cpp listens. Other builds only have the empty functions here.
#pragma once

#include "emulator/block.h"

namespace emulator {

enum class Touch { read, write, atomic, copy, arrival };

#ifdef DYHEAD_EMULATOR_CHECK
/// The thread that runs touches these bytes; nothing happens unless they are shared memory.
void touches(const void* address, size_t bytes, Touch touch);
/// Whether to pass over the barrier or wait in this line: tests leave one out and expect to be told.
bool is_left_out(const char* file, int line);
#else
inline void touches(const void*, size_t, Touch) {}
inline bool is_left_out(const char*, int) { return false; }
#endif

/// Inside its life, accesses have been told already: those of an atomic, of an asynchronous copy.
struct Told {
  Told(const void* address, size_t bytes, Touch touch) {
    touches(address, bytes, touch);
    Block::current().is_told = true;
  }
  ~Told() { Block::current().is_told = false; }
};

/// cp.async: begin to copy 16 bytes; they are there when the thread has waited.
inline void begin_copy(void* target, const float4& value) {
  const Told told(target, sizeof(value), Touch::copy);
  Block::current().begin_copy(target, value);
}

/// cp.async.wait_all
inline void wait_for_copies(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (is_left_out(file, line)) return;
  Block::current().finish_copies([](float4* target, const float4& value) {
    const Told told(target, sizeof(value), Touch::arrival);
    *target = value;
  });
}

}  // namespace emulator

// What Python calls, through ctypes, to record the accesses of a few threads and to count launches. Part of the debug
// build only.
#include <algorithm>

#include "emulator/observer.h"

#define EXPORT __attribute__((visibility("default")))

extern "C" {

/// Record threads first..last of block `block` in everything that is launched from now on.
EXPORT void dyhead_record_begin(int64_t block, int64_t first, int64_t last) {
  emulator::Observer::get().begin(block, first, last);
}

/// Stop, and say how many accesses were recorded.
EXPORT int64_t dyhead_record_end() {
  emulator::Observer::get().end();
  return int64_t(emulator::Observer::get().accesses().size());
}

/// Copy the recorded accesses to `target`, which has room for all of them.
EXPORT void dyhead_record_copy(emulator::Access* target) {
  const auto& accesses = emulator::Observer::get().accesses();
  std::copy(accesses.begin(), accesses.end(), target);
}

/// From now on the emulated GPU has so many multiprocessors.
EXPORT void dyhead_multiprocessors(int64_t count) { emulator::multiprocessors = count; }

/// From now on the emulated GPU has this compute capability, times ten.
EXPORT void dyhead_compute_capability(int tenfold) { emulator::compute_capability = tenfold; }

/// "kernel<T>=3;": every kernel that was launched since the library was loaded, and how often. Valid until called
/// again.
EXPORT const char* dyhead_launches() {
  static std::string told;
  told.clear();
  for (const auto& [kernel, count] : emulator::Observer::get().launches())
    told += kernel + "=" + std::to_string(count) + ";";
  return told.c_str();
}
}

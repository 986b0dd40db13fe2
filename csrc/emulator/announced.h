// What the compiler calls before each access to memory, with -fsanitize=thread. Only these calls are used, not the
// sanitizer's library. Who includes this file defines `announced`, and is compiled without the flag.
#pragma once

#include <cstddef>
#include <cstring>

namespace emulator {

/// Bytes from `address` on are read or written; the call that announces it returns to `at`.
static void announced(const void* address, size_t bytes, bool is_write, const void* at);

}  // namespace emulator

#define AT __builtin_return_address(0)
#define ANNOUNCED(bytes)                                                                              \
  extern "C" void __tsan_read##bytes(void* a) { emulator::announced(a, bytes, false, AT); }           \
  extern "C" void __tsan_write##bytes(void* a) { emulator::announced(a, bytes, true, AT); }           \
  extern "C" void __tsan_unaligned_read##bytes(void* a) { emulator::announced(a, bytes, false, AT); } \
  extern "C" void __tsan_unaligned_write##bytes(void* a) { emulator::announced(a, bytes, true, AT); }
ANNOUNCED(1)
ANNOUNCED(2)
ANNOUNCED(4)
ANNOUNCED(8)
ANNOUNCED(16)
extern "C" void __tsan_read_range(void* a, size_t bytes) { emulator::announced(a, bytes, false, AT); }
extern "C" void __tsan_write_range(void* a, size_t bytes) { emulator::announced(a, bytes, true, AT); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
/// The guard of a static variable
extern "C" char __tsan_atomic8_load(const volatile char* a, int) { return __atomic_load_n(a, __ATOMIC_ACQUIRE); }
extern "C" void __tsan_vptr_read(void**) {}
extern "C" void __tsan_vptr_update(void**, void*) {}

// Clang announces copies of structs so
extern "C" void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  emulator::announced(from, bytes, false, AT);
  emulator::announced(to, bytes, true, AT);
  return std::memcpy(to, from, bytes);
}
extern "C" void* __tsan_memset(void* to, int value, size_t bytes) {
  emulator::announced(to, bytes, true, AT);
  return std::memset(to, value, bytes);
}
#undef ANNOUNCED
#undef AT

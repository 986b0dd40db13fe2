// The program around a kernel that comes as text: it reads a launch, runs it under the witness, and leaves what came
// out. A process of its own, so that whatever the text does ends there.
//
//   PROGRAM request buffers report
//
// `request` is a sequence of int64: blocks (3), threads (3), dynamic shared bytes, watched block, first and last
// watched thread, number of arguments; then of each argument: 1 for a tensor or 0 for a number, its bytes, bytes of an
// element, and the bytes themselves. `buffers` receives the tensors' bytes in the order of the arguments, `report`
// JSON.
#include <sys/mman.h>

#include <cstring>
#include <exception>
#include <fstream>
#include <stdexcept>

#include "emulator/announced.h"
#include "emulator/text.h"
#include "emulator/warp.h"
#include "emulator/witness.h"

/// Behind the text stands this function: it calls the kernel with the values that `arguments` point to.
extern "C" void dyhead_call(void* const* arguments);

/// Where the linker puts the text's shared memory. This file is linked behind the text, so the text's ends at
/// shared_end.
extern "C" char __start_dyhead_shared[];

namespace emulator {

constexpr size_t kSharedLimit = 48 * 1024, kSlot = size_t(1) << 27, kBehindShared = 1 << 16;

__attribute__((section("dyhead_shared"), aligned(4))) char shared_end[kBehindShared];
Witness witness;
alignas(128) char dynamic_shared_memory[kSharedLimit + kBehindShared];

void* dynamic_shared() { return dynamic_shared_memory; }

static void announced(const void* address, size_t bytes, bool is_write, const void* at) {
  witness.sees(address, bytes, is_write ? Kind::write : Kind::read, at);
}

}  // namespace emulator

// What text.h declares. It is not defined there, where the compiler would announce its insides.

void __syncthreads() {
  emulator::witness.barrier();
  emulator::Block::current().barrier();
}

void __syncwarp(unsigned mask) {
  emulator::Block::current().collective(mask, nullptr, [](emulator::Payloads) {});
  emulator::witness.warp_step();
}

#define ATOMIC_ADD(T)                                                                                    \
  T atomicAdd(T* address, T value) {                                                                     \
    emulator::witness.sees(address, sizeof(T), emulator::Kind::atomic_add, __builtin_return_address(0)); \
    const T before = *address;                                                                           \
    *address = before + value;                                                                           \
    return before;                                                                                       \
  }
ATOMIC_ADD(int)
ATOMIC_ADD(unsigned)
ATOMIC_ADD(float)
ATOMIC_ADD(double)

namespace emulator {

template <class T>
T shuffle(unsigned mask, T value, unsigned source) {
  const T received = exchange(mask, value, source);
  witness.warp_step();
  return received;
}

}  // namespace emulator

#define SHUFFLES(T)                                                                                      \
  T __shfl_sync(unsigned mask, T value, int source, int width) {                                         \
    const unsigned first = emulator::lane() / width * width;                                             \
    return emulator::shuffle(mask, value, first + unsigned(source) % width);                             \
  }                                                                                                      \
  T __shfl_xor_sync(unsigned mask, T value, int bits, int width) {                                       \
    const unsigned lane = emulator::lane(), source = lane ^ unsigned(bits);                              \
    return emulator::shuffle(mask, value, source / width == lane / width ? source : lane);               \
  }                                                                                                      \
  T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width) {                                \
    const unsigned lane = emulator::lane();                                                              \
    return emulator::shuffle(mask, value, lane % width + delta < unsigned(width) ? lane + delta : lane); \
  }
SHUFFLES(int)
SHUFFLES(float)

// The program

namespace {

class Request {
 public:
  explicit Request(const char* path) : file_(path, std::ios::binary) {}
  int64_t number() {
    int64_t value = 0;
    read(&value, sizeof(value));
    return value;
  }
  dim3 size() {
    const unsigned x = unsigned(number()), y = unsigned(number()), z = unsigned(number());
    return {x, y, z};
  }
  void read(void* target, size_t bytes) {
    if (!file_.read(static_cast<char*>(target), std::streamsize(bytes))) throw std::runtime_error("a broken request");
  }

 private:
  std::ifstream file_;
};

/// A tensor in the middle of addresses that nothing else has, so that who misses it is recognised.
char* tensor_memory(size_t bytes) {
  const size_t whole = bytes + 2 * emulator::kSlot;
  void* memory = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no memory for a tensor");
  return static_cast<char*>(memory) + emulator::kSlot;
}

void add_region(int number, char* begin, size_t bytes, size_t before, size_t behind, size_t granule) {
  emulator::witness.regions.push_back(
      {number, begin, bytes, before, behind, granule, std::vector<emulator::Marks>(bytes / granule + 1)});
}

void run(const char* request_path, const char* buffers_path) {
  Request request(request_path);
  const dim3 blocks = request.size(), threads = request.size();
  const size_t dynamic_bytes = size_t(request.number());
  using emulator::witness;
  witness.watched_block = request.number();
  witness.watched_first = int(request.number());
  witness.watched_last = int(request.number());
  const size_t count = size_t(request.number());
  std::vector<std::vector<char>> numbers(count);
  std::vector<char*> tensors(count);
  std::vector<size_t> sizes(count);
  std::vector<void*> arguments(count);
  for (size_t n = 0; n < count; ++n) {
    const bool is_tensor = request.number() != 0;
    sizes[n] = size_t(request.number());
    witness.element.push_back(unsigned(request.number()));
    if (is_tensor) {
      tensors[n] = tensor_memory(sizes[n]);
      request.read(tensors[n], sizes[n]);
      arguments[n] = &tensors[n];
      add_region(int(n), tensors[n], sizes[n], emulator::kSlot, emulator::kSlot, witness.element[n]);
    } else {
      numbers[n].resize(sizes[n]);
      request.read(numbers[n].data(), sizes[n]);
      arguments[n] = numbers[n].data();
    }
  }
  using namespace emulator;
  const size_t static_bytes = size_t(shared_end - __start_dyhead_shared);
  if (static_bytes + dynamic_bytes > kSharedLimit) witness.fail("shared limit", "");
  add_region(kShared, __start_dyhead_shared, static_bytes, 0, kBehindShared, 1);
  const size_t behind = sizeof(dynamic_shared_memory) - dynamic_bytes;
  add_region(kDynamicShared, dynamic_shared_memory, dynamic_bytes, 0, behind, 1);
  witness.start(size_t(threads.x) * threads.y * threads.z);
  Block::current().run_grid(blocks, threads, 0, [&] { dyhead_call(arguments.data()); });
  witness.finish();
  std::ofstream buffers(buffers_path, std::ios::binary);
  for (size_t n = 0; n < count; ++n)
    if (tensors[n]) buffers.write(tensors[n], std::streamsize(sizes[n]));
}

}  // namespace

int main(int, char** paths) {
  emulator::witness.report_path = paths[3];
  try {
    run(paths[1], paths[2]);
  } catch (const std::exception& error) {
    emulator::witness.fail("scheduler", error.what());
  }
}

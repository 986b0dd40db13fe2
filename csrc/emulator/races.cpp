// Finds threads that race for shared memory (shared.h says what a race is). Part of the debug build only.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "emulator/announced.h"
#include "emulator/observer.h"
#include "emulator/shared.h"

#define EXPORT __attribute__((visibility("default")))

namespace emulator {
namespace {

constexpr size_t kCellBytes = 2;  // no kernel shares smaller elements out between threads
constexpr int kNobody = -1;

/// Who touched two bytes of shared memory last, and when, in barriers of the block and of the warp.
struct Cell {
  uint64_t written = 0, read = 0;
  unsigned written_in_warp = 0, read_in_warp = 0;
  int writer = kNobody, reader = kNobody, reader_before = kNobody;
  int copier = kNobody;  // whose asynchronous copy is under way
  uint64_t copied = 0;
  bool is_atomic = false, many_warps_read = false;
};
std::vector<Cell> cells;

struct {
  std::string file;
  int line = 0;
} left_out;

int warp_of(int thread) { return thread / int(kWarpSize); }

/// The access that happens now.
struct Now {
  const char* address;
  size_t bytes;
  Touch touch;
  int thread = Block::current().running();
  uint64_t barriers = Block::current().barriers();
  unsigned warp_barriers = Block::current().warp_barriers();

  bool writes() const { return touch != Touch::read; }

  /// What is wrong with it at this cell; empty if nothing.
  std::string look(const Cell& cell) const {
    if (touch == Touch::arrival) return "";
    if (cell.copier != kNobody && cell.copied >= Block::current().first_barrier())
      return "which an asynchronous copy of " + name(cell.copier) + " is still writing";
    const bool both_atomic = touch == Touch::atomic && cell.is_atomic;
    if (cell.written == barriers && cell.writer != thread && !both_atomic &&
        !is_ordered(cell.writer, cell.written_in_warp))
      return "which " + name(cell.writer) + " wrote since the last barrier";
    const int reader = cell.reader != thread ? cell.reader : cell.reader_before;
    if (writes() && cell.read == barriers && reader != kNobody &&
        (cell.many_warps_read || !is_ordered(reader, cell.read_in_warp)))
      return "which " + name(reader) + " read since the last barrier";
    return "";
  }

  void leave_mark(Cell& cell) const {
    if (touch == Touch::copy) {
      cell.copier = thread, cell.copied = barriers;
    } else if (writes()) {
      cell.written = barriers, cell.written_in_warp = warp_barriers, cell.writer = thread;
      cell.is_atomic = touch == Touch::atomic, cell.copier = kNobody;
    } else if (cell.read != barriers) {
      cell.read = barriers, cell.read_in_warp = warp_barriers, cell.reader = thread;
      cell.reader_before = kNobody, cell.many_warps_read = false;
    } else {
      cell.many_warps_read |= warp_of(cell.reader) != warp_of(thread);
      if (cell.reader != thread) cell.reader_before = cell.reader;
      cell.read_in_warp = std::max(cell.read_in_warp, warp_barriers), cell.reader = thread;
    }
  }

  void refuse(const std::string& why) const {
    const int64_t first = address - shared_memory.begin;
    Block::current().abandon(std::string("race in ") + Observer::get().kernel() + ", block (" +
                             Observer::name(here.block) + "): " + name(thread) + (writes() ? " writes" : " reads") +
                             " bytes " + std::to_string(first) + " to " + std::to_string(first + int64_t(bytes) - 1) +
                             " of '" + shared_memory.name + "', " + why);
  }

  static std::string name(int thread) { return "thread " + std::to_string(thread); }

 private:
  bool is_ordered(int other, unsigned in_warp) const {
    return warp_of(other) == warp_of(thread) && in_warp < warp_barriers;
  }
};

}  // namespace

void touches(const void* address, size_t bytes, Touch touch) {
  const char* byte = static_cast<const char*>(address);
  // First of all, and without any call: what is called here may be compiled to announce its own accesses.
  if (shared_memory.begin == nullptr || byte < shared_memory.begin ||
      byte >= shared_memory.begin + shared_memory.bytes + SharedMemory::kBehind)
    return;
  Block& block = Block::current();
  if (block.is_told) return;
  block.pause();
  const Now now{byte, bytes, touch};
  if (byte + bytes > shared_memory.begin + shared_memory.bytes) return now.refuse("which lie behind its end");
  cells.resize(std::max(cells.size(), (shared_memory.bytes + kCellBytes - 1) / kCellBytes));
  const size_t first = size_t(byte - shared_memory.begin) / kCellBytes;
  const size_t last = (size_t(byte - shared_memory.begin) + bytes - 1) / kCellBytes;
  for (size_t n = first; n <= last; ++n) {
    const std::string problem = now.look(cells[n]);
    if (!problem.empty()) return now.refuse(problem);
    now.leave_mark(cells[n]);
  }
}

bool is_left_out(const char* file, int line) {
  if (line != left_out.line) return false;
  const std::string path = file;
  return path.size() >= left_out.file.size() &&
         path.compare(path.size() - left_out.file.size(), std::string::npos, left_out.file) == 0;
}

static void announced(const void* address, size_t bytes, bool is_write, const void*) {
  touches(address, bytes, is_write ? Touch::write : Touch::read);
}

}  // namespace emulator

extern "C" {

/// From now on blocks and threads run in an order that follows from the seed; 0: one after the other.
EXPORT void dyhead_order(uint64_t seed) { emulator::Block::current().order.seed(seed); }

/// From now on pass over the barrier or the wait in this line of a source file, given from csrc on; line 0: over none.
EXPORT void dyhead_leave_out(const char* file, int line) {
  emulator::left_out.file = file;
  emulator::left_out.line = line;
}
}

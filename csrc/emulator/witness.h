// The witness of a kernel that comes as text: it sees each access to global and shared memory before it happens,
// refuses one outside its tensor, finds threads that race, and counts what moves.
//
// Global memory moves in sectors of 32 bytes: a request of a warp costs as many as its lanes touch. Shared memory lies
// in 32 banks of 4-byte words: a request takes as many passes as the busiest bank has different words. No cache is
// modelled. Two accesses of two threads race if one of them is a plain write and nothing orders them: no barrier of
// their block, no warp function of their warp. Atomics are counted, not searched for races.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "emulator/block.h"

namespace emulator {

constexpr size_t kSectorBytes = 32, kWordBytes = 4, kBanks = 32;

enum class Kind : int { read = 0, write = 1, atomic_add = 2 };

/// Which thread touched an element, at which instruction, and how many barriers it had passed.
struct Mark {
  int64_t block = -1;
  int thread = 0;
  unsigned barriers = 0, warp_steps = 0;
  const void* at = nullptr;
};

struct Marks {
  Mark write, read[2];  // the last reads of two different threads
};

/// A tensor, or shared memory. Bytes around it belong to nothing else: whoever lands there has missed it.
struct Region {
  int number;  // of the parameter; kShared, kDynamicShared
  char* begin;
  size_t bytes, around_before, around_behind;
  size_t granule;  // bytes for which races are followed
  std::vector<Marks> marks;
};
constexpr int kShared = -1, kDynamicShared = -2;

/// One access, in the order of the emulator; Python reads it as JSON.
struct Step {
  int thread;
  Kind kind;
  int region;
  int64_t index;
  size_t count;
  const char* address;
  uint64_t before, after;  // the bits of the first element
  const void* at;
};

class Witness {
 public:
  std::vector<Region> regions;
  std::vector<unsigned> element;  // bytes of an element of each parameter, to give indices
  int64_t watched_block = -1;
  int watched_first = 0, watched_last = -1;
  const char* report_path = nullptr;

  void start(size_t threads) {
    clocks_.assign(threads, Clock());
    running_ = true;
  }

  void sees(const void* address, size_t bytes, Kind kind, const void* at) {
    if (!running_) return;
    if (block_ != linear(here.block, here.grid_size)) next_block();
    const char* byte = static_cast<const char*>(address);
    settle();
    for (size_t n = 0; n < regions.size(); ++n) {
      Region& region = regions[n];
      if (byte < region.begin - region.around_before) continue;
      if (byte >= region.begin + region.bytes + region.around_behind) continue;
      if (byte < region.begin || byte + bytes > region.begin + region.bytes) fail("bounds", region, byte, bytes, at);
      const bool is_word = bytes <= 16 && (bytes & (bytes - 1)) == 0;
      if (is_word && reinterpret_cast<uintptr_t>(byte) % bytes) fail("alignment", region, byte, bytes, at);
      const Mark mark = mine(at);
      count(n, byte, bytes, kind, mark);
      if (kind != Kind::atomic_add) follow(region, byte, bytes, kind == Kind::write, mark);
      watch(region, byte, bytes, kind, mark);
      return;
    }
    if (reinterpret_cast<uintptr_t>(byte) < (1u << 16)) fail("null", regions[0], byte, bytes, at);
  }

  void barrier() { ++clocks_[thread()].barriers; }
  void warp_step() { ++clocks_[thread()].warp_steps; }

  /// Everything ran: write the counts.
  void finish() {
    settle();
    end_block();
    running_ = false;
    FILE* file = open("ok");
    std::fprintf(file, ", \"traffic\": [");
    const char* comma = "";
    for (const auto& [key, sum] : sums_) {
      std::fprintf(file, "%s[%lld, %d, %d, %lld, %lld, %lld, %lld]", comma, place(key.first),
                   regions[key.second].number, int(sum.kind), (long long)sum.requests, (long long)sum.lanes,
                   (long long)sum.bytes, (long long)sum.moved);
      comma = ", ";
    }
    std::fprintf(file, "], \"steps\": [");
    comma = "";
    for (const Step& step : steps_) {
      std::fprintf(file, "%s[%d, %d, %d, %lld, %zu, %llu, %llu, %lld]", comma, step.thread, int(step.kind), step.region,
                   (long long)step.index, step.count, (unsigned long long)step.before, (unsigned long long)step.after,
                   place(step.at));
      comma = ", ";
    }
    std::fprintf(file, "]");
    close(file);
  }

  /// What the scheduler found, such as a deadlock.
  void fail(const char* kind, const char* message) {
    FILE* file = open(kind);
    std::fprintf(file, ", \"message\": \"%s\"", message);
    leave(file);
  }

 private:
  struct Clock {
    unsigned barriers = 0, warp_steps = 0;
    std::vector<unsigned> turns;  // how often this thread came to each instruction
  };
  struct Event {
    int instruction, warp;
    unsigned turn;
    size_t offset, bytes;
  };
  struct Sum {
    Kind kind;
    int64_t requests = 0, lanes = 0, bytes = 0, moved = 0;
  };
  using Instruction = std::pair<const void*, size_t>;  // where in the code, number of the region

  static int64_t linear(uint3 at, dim3 size) { return at.x + int64_t(size.x) * (at.y + int64_t(size.y) * at.z); }
  static int thread() { return int(linear(here.thread, here.block_size)); }

  Mark mine(const void* at) const {
    const Clock& clock = clocks_[thread()];
    return {block_, thread(), clock.barriers, clock.warp_steps, at};
  }

  // Blocks

  void next_block() {
    if (block_ >= 0) end_block();
    block_ = linear(here.block, here.grid_size);
    for (Clock& clock : clocks_) clock = Clock();
    for (Region& region : regions) {
      if (region.number >= 0) continue;
      std::fill(region.begin, region.begin + region.bytes, char(0xff));  // NaN: nobody has written here
      region.marks.assign(region.marks.size(), Marks());
    }
    unwritten_.at = nullptr;
  }

  void end_block() {
    if (block_ < 0) return;
    for (size_t n = 1; n < clocks_.size(); ++n)
      if (clocks_[n].barriers != clocks_[0].barriers) {
        const size_t fewer = clocks_[n].barriers < clocks_[0].barriers ? n : 0;
        FILE* file = open("barrier");
        std::fprintf(file, ", \"block\": %lld, \"thread\": %zu", (long long)block_, fewer);
        leave(file);
      }
    if (unwritten_.at) fail_at("unwritten", regions[unwritten_region_], unwritten_byte_, 1, unwritten_, nullptr);
    fold();
  }

  // Races

  static bool is_same(const Mark& a, const Mark& b) { return a.block == b.block && a.thread == b.thread; }
  static bool races(const Mark& a, const Mark& b) {
    if (b.block < 0 || is_same(a, b)) return false;
    if (a.block != b.block) return true;
    const bool is_same_warp = a.thread / int(kWarpSize) == b.thread / int(kWarpSize);
    return a.barriers == b.barriers && !(is_same_warp && a.warp_steps != b.warp_steps);
  }

  void follow(Region& region, const char* byte, size_t bytes, bool is_write, const Mark& mark) {
    const size_t first = (byte - region.begin) / region.granule;
    const size_t last = (byte + bytes - 1 - region.begin) / region.granule;
    for (size_t n = first; n <= last; ++n) {
      Marks& marks = region.marks[n];
      if (races(mark, marks.write)) fail_at("race", region, byte, bytes, mark, &marks.write, true, is_write);
      if (is_write) {
        for (const Mark& read : marks.read)
          if (races(mark, read)) fail_at("race", region, byte, bytes, mark, &read, false, true);
        marks.write = mark;
        continue;
      }
      if (region.number < 0 && marks.write.block < 0 && !unwritten_.at)
        unwritten_ = mark, unwritten_byte_ = byte, unwritten_region_ = &region - regions.data();
      if (!is_same(marks.read[0], mark)) marks.read[1] = marks.read[0];
      marks.read[0] = mark;
    }
  }

  // Counts

  void count(size_t region, const char* byte, size_t bytes, Kind kind, const Mark& mark) {
    const auto [found, is_new] = instructions_.try_emplace(Instruction(mark.at, region), int(kinds_.size()));
    if (is_new) kinds_.push_back(kind), keys_.push_back(found->first);
    std::vector<unsigned>& turns = clocks_[mark.thread].turns;
    if (turns.size() <= size_t(found->second)) turns.resize(found->second + 1);
    const size_t offset = size_t(byte - regions[region].begin);
    events_.push_back({found->second, mark.thread / int(kWarpSize), turns[found->second]++, offset, bytes});
  }

  /// Lanes of a warp that come to an instruction for the n-th time make one request.
  void fold() {
    std::sort(events_.begin(), events_.end(), [](const Event& a, const Event& b) {
      return std::tie(a.instruction, a.warp, a.turn) < std::tie(b.instruction, b.warp, b.turn);
    });
    std::vector<size_t> units;
    for (size_t first = 0, next; first < events_.size(); first = next) {
      const Event& event = events_[first];
      const bool is_shared = regions[keys_[event.instruction].second].number < 0;
      const size_t unit = is_shared ? kWordBytes : kSectorBytes;
      Sum& sum = sums_.try_emplace(keys_[event.instruction], Sum{kinds_[event.instruction]}).first->second;
      units.clear();
      for (next = first; next < events_.size(); ++next) {
        const Event& lane = events_[next];
        if (lane.instruction != event.instruction || lane.warp != event.warp || lane.turn != event.turn) break;
        for (size_t n = lane.offset / unit; n <= (lane.offset + lane.bytes - 1) / unit; ++n) units.push_back(n);
        ++sum.lanes, sum.bytes += lane.bytes;
      }
      std::sort(units.begin(), units.end());
      units.erase(std::unique(units.begin(), units.end()), units.end());
      ++sum.requests, sum.moved += is_shared ? passes(units) : int64_t(units.size());
    }
    events_.clear();
  }

  static int64_t passes(const std::vector<size_t>& words) {
    int64_t of_bank[kBanks] = {};
    for (size_t word : words) ++of_bank[word % kBanks];
    return *std::max_element(of_bank, of_bank + kBanks);
  }

  // Steps of the threads that somebody asked about

  void watch(const Region& region, const char* byte, size_t bytes, Kind kind, const Mark& mark) {
    if (mark.block != watched_block || mark.thread < watched_first || mark.thread > watched_last) return;
    const size_t size = region.number < 0 ? kWordBytes : element[region.number];
    steps_.push_back({mark.thread, kind, region.number, (byte - region.begin) / int64_t(size), bytes / size, byte,
                      bits(byte, size), bits(byte, size), mark.at});
    is_open_ = kind != Kind::read;
  }

  /// What a write left behind is there at the next access.
  void settle() {
    if (!is_open_) return;
    Step& step = steps_.back();
    step.after = bits(step.address, step.region < 0 ? kWordBytes : element[step.region]);
    is_open_ = false;
  }

  static uint64_t bits(const char* byte, size_t size) {
    uint64_t word = 0;
    std::memcpy(&word, byte, std::min(size, sizeof(word)));
    return word;
  }

  // The report

  FILE* open(const char* kind) {
    FILE* file = std::fopen(report_path, "w");
    if (!file) std::abort();
    std::fprintf(file, "{\"kind\": \"%s\"", kind);
    return file;
  }
  static void close(FILE* file) {
    std::fprintf(file, "}\n");
    std::fclose(file);
  }
  [[noreturn]] static void leave(FILE* file) {
    close(file);
    std::fflush(stdout);
    _exit(0);
  }
  [[noreturn]] void fail(const char* kind, const Region& region, const char* byte, size_t bytes, const void* at) {
    fail_at(kind, region, byte, bytes, mine(at), nullptr);
  }
  [[noreturn]] void fail_at(const char* kind, const Region& region, const char* byte, size_t bytes, const Mark& mark,
                            const Mark* other, bool other_wrote = false, bool wrote = false) {
    FILE* file = open(kind);
    const size_t size = region.number < 0 ? kWordBytes : element[region.number];
    const int64_t distance = byte - region.begin,
                  index = (distance - (distance < 0 ? int64_t(size) - 1 : 0)) / int64_t(size);
    std::fprintf(file, ", \"region\": %d, \"index\": %lld, \"bytes\": %zu, \"block\": %lld, \"thread\": %d, ",
                 region.number, (long long)index, bytes, (long long)mark.block, mark.thread);
    std::fprintf(file, "\"place\": %lld, \"wrote\": %d", place(mark.at), int(wrote));
    if (other)
      std::fprintf(file, ", \"other\": [%lld, %d, %lld, %d]", (long long)other->block, other->thread, place(other->at),
                   int(other_wrote));
    leave(file);
  }

  /// Where the call stands that announced an access: it returns to `at`.
  static long long place(const void* at) { return (long long)(reinterpret_cast<uintptr_t>(at)) - 1; }

  bool running_ = false, is_open_ = false;
  int64_t block_ = -1;
  std::vector<Clock> clocks_;
  std::map<Instruction, int> instructions_;
  std::vector<Instruction> keys_;
  std::vector<Kind> kinds_;
  std::vector<Event> events_;
  std::map<Instruction, Sum> sums_;
  std::vector<Step> steps_;
  Mark unwritten_;
  const char* unwritten_byte_ = nullptr;
  size_t unwritten_region_ = 0;
};

}  // namespace emulator

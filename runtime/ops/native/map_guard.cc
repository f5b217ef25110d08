// Keeps the process alive where a mapped file has lost bytes that are read (SIGBUS): its file was
// cut short, or the disk gives an error. What is missing reads as zeros, and the fault is counted:
// readers of the map must check the count before using what was computed.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "export.h"

namespace rocmforge {
namespace {

// The handler reads all of this without a lock, so nothing is ever moved or freed. An entry's start
// is written last and cleared first.
struct Range {
  std::atomic<uintptr_t> start;
  std::atomic<uintptr_t> end;
  std::atomic<int> guard;
};

constexpr int most_guards = 256;
constexpr int most_ranges = 1 << 16;  // as many as a process may map

std::atomic<int64_t> faults[most_guards];
bool taken[most_guards];
Range ranges[most_ranges];
std::atomic<int> used_ranges;
uintptr_t page_size;
struct sigaction before;
std::atomic<bool> ending;
std::mutex changing;

void say(const char* text) {
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, text, std::strlen(text));
}

// The end of the map that holds an address, or 0; from the system's list, by system calls alone.
// A range may outlive its map, whose addresses others then have: zeros must stop at the map's end.
uintptr_t map_end(uintptr_t address) {
  const int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char text[4096];
  uintptr_t numbers[2] = {0, 0};
  int field = 0;  // a line begins "start-end "; 2 is the rest of the line
  uintptr_t found = 0;
  for (ssize_t size; found == 0 && (size = read(file, text, sizeof text)) > 0;) {
    for (ssize_t i = 0; found == 0 && i < size; ++i) {
      const char c = text[i];
      if (c == '\n') {
        if (numbers[0] <= address && address < numbers[1]) found = numbers[1];
        numbers[0] = numbers[1] = 0;
        field = 0;
      } else if (field < 2) {
        if (c == '-' || c == ' ') {
          ++field;
        } else {
          numbers[field] = numbers[field] * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
        }
      }
    }
  }
  close(file);
  return found;
}

// Zeros from the page of an address to the end of its range. mmap is a plain system call.
bool put_zeros(uintptr_t address, uintptr_t end) {
  const uintptr_t page = address & ~(page_size - 1);
  void* const wanted = reinterpret_cast<void*>(page);
  return mmap(wanted, end - page, PROT_READ,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == wanted;
}

bool survive(uintptr_t address) {
  const int count = used_ranges.load(std::memory_order_acquire);
  uintptr_t zeros_end = 0;
  for (int i = 0; i < count; ++i) {
    const uintptr_t start = ranges[i].start.load(std::memory_order_acquire);
    const uintptr_t end = ranges[i].end.load(std::memory_order_relaxed);
    if (start == 0 || address < start || address >= end) continue;
    // Counted first: no thread may continue with uncounted zeros.
    faults[ranges[i].guard.load(std::memory_order_relaxed)].fetch_add(1);
    zeros_end = std::max(zeros_end, end);
  }
  if (zeros_end == 0) return false;
  const uintptr_t page_end = (address & ~(page_size - 1)) + page_size;
  return put_zeros(address, std::min(zeros_end, std::max(page_end, map_end(address))));
}

void on_bus_error(int signal, siginfo_t* info, void*) {
  const int error = errno;
  const bool is_fault = info->si_code > 0;
  if (is_fault && survive(reinterpret_cast<uintptr_t>(info->si_addr))) {
    errno = error;
    return;
  }
  say("rocmforge: a mapped file was cut short or its disk cannot be read (SIGBUS); ending\n");
  // Who handled it before does so now: the instruction faults again when this returns. It may hand
  // back to this one.
  if (ending.exchange(true)) before = {};
  sigaction(signal, &before, nullptr);
  if (!is_fault) raise(signal);
  errno = error;
}

bool is_installed() {
  struct sigaction now = {};
  return sigaction(SIGBUS, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 &&
         now.sa_sigaction == on_bus_error;
}

// Each time, since another library may have put its own handler in the place of this one.
bool install() {
  page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  if (is_installed()) return true;
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGBUS, &action, &before) == 0;
}

}  // namespace
}  // namespace rocmforge

// A new guard, which counts the faults of its ranges; -1 where none is free.
ROCMFORGE_EXPORT int rocmforge_open_guard() {
  using namespace rocmforge;
  const std::lock_guard lock(changing);
  if (!install()) return -1;
  for (int guard = 0; guard < most_guards; ++guard) {
    if (taken[guard]) continue;
    taken[guard] = true;
    faults[guard].store(0);
    return guard;
  }
  return -1;
}

// Guards a range of whole pages of a mapped file. 0 on success, -1 where there is no entry left.
ROCMFORGE_EXPORT int rocmforge_guard_range(int guard, uintptr_t start, uintptr_t end) {
  using namespace rocmforge;
  const std::lock_guard lock(changing);
  if (!install()) return -1;
  const int count = used_ranges.load();
  int at = 0;
  while (at < count && ranges[at].start.load() != 0) ++at;
  if (at == most_ranges) return -1;
  ranges[at].guard.store(guard);
  ranges[at].end.store(end);
  ranges[at].start.store(start, std::memory_order_release);
  if (at == count) used_ranges.store(count + 1, std::memory_order_release);
  return 0;
}

// How often a range of a guard was read where its file has no bytes any more.
ROCMFORGE_EXPORT int64_t rocmforge_guard_faults(int guard) {
  return rocmforge::faults[guard].load();
}

// Guards the ranges no longer, before they are unmapped.
ROCMFORGE_EXPORT void rocmforge_close_guard(int guard) {
  using namespace rocmforge;
  if (guard < 0) return;
  const std::lock_guard lock(changing);
  for (int i = 0; i < used_ranges.load(); ++i) {
    if (ranges[i].guard.load() == guard) ranges[i].start.store(0, std::memory_order_release);
  }
  taken[guard] = false;
}

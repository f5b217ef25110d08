#include "row_threads.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "export.h"

namespace rocmforge {
namespace {

// Of all rows; with fewer, waking a thread takes longer than it saves.
constexpr int64_t least_values = 1 << 19;
constexpr int64_t most_threads = 8;

std::atomic<int64_t> allowed_threads = 1;

// Threads that wait for calls and never end. One call at a time has them.
class Team {
 public:
  // Whether the team was free; it has done the work then.
  bool run(int64_t rows, int64_t threads, const std::function<void(int64_t)>& work) {
    std::unique_lock call(call_, std::try_to_lock);
    if (!call.owns_lock()) return false;
    {
      std::lock_guard lock(mutex_);
      while (std::ssize(members_) < threads - 1 && add_member()) {
      }
      keep_off(sched_getcpu());
      work_ = &work;
      rows_ = rows;
      next_ = 0;
      ++calls_;
    }
    begun_.notify_all();
    take_rows(work);
    {
      // Who wakes up only now finds nothing to do.
      std::lock_guard lock(mutex_);
      work_ = nullptr;
    }
    while (working_ != 0) std::this_thread::yield();
    return true;
  }

 private:
  // Threads of ONNX Runtime wait busily for the next step. Where no processor is idle, the system
  // wakes a thread on its caller's, which it could only wait for.
  void keep_off(int processor) {
    if (processor < 0 || processor == kept_off_) return;
    kept_off_ = processor;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
    CPU_CLR(processor, &allowed);
    for (const auto member : members_) pthread_setaffinity_np(member, sizeof allowed, &allowed);
  }

  bool add_member() {
    try {
      std::thread member([this] { serve(); });
      members_.push_back(member.native_handle());
      member.detach();
      kept_off_ = -1;
    } catch (const std::system_error&) {
      return false;
    }
    return true;
  }

  void serve() {
    uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      begun_.wait(lock, [&] { return work_ != nullptr && calls_ != seen; });
      seen = calls_;
      ++working_;
      const auto& work = *work_;
      lock.unlock();
      take_rows(work);
      --working_;
      lock.lock();
    }
  }

  void take_rows(const std::function<void(int64_t)>& work) {
    for (int64_t row; (row = next_.fetch_add(1)) < rows_;) work(row);
  }

  std::mutex call_, mutex_;
  std::condition_variable begun_;
  std::vector<std::thread::native_handle_type> members_;
  int kept_off_ = -1;
  int64_t rows_ = 0;
  uint64_t calls_ = 0;
  const std::function<void(int64_t)>* work_ = nullptr;
  std::atomic<int64_t> next_ = 0, working_ = 0;
};

// A process that was forked off has none of its parent's threads. Teams are never freed: their
// threads run until the process ends.
Team& team() {
  static std::mutex mutex;
  static Team* own = nullptr;
  static pid_t process = 0;
  std::lock_guard lock(mutex);
  if (own == nullptr || process != getpid()) {
    own = new Team;
    process = getpid();
  }
  return *own;
}

}  // namespace

void use_row_threads(int64_t count) {
  allowed_threads = std::clamp<int64_t>(count, 1, most_threads);
}

void for_each_row(int64_t rows, int64_t row_values, const std::function<void(int64_t)>& work) {
  const int64_t threads = std::min<int64_t>(allowed_threads, rows);
  if (threads > 1 && rows * row_values >= least_values && team().run(rows, threads, work)) return;
  for (int64_t row = 0; row < rows; ++row) work(row);
}

}  // namespace rocmforge

// How many threads may share the rows of a call.
ROCMFORGE_EXPORT void rocmforge_use_row_threads(int64_t count) {
  rocmforge::use_row_threads(count);
}

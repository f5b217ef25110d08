#include "arena.h"

#include <algorithm>
#include <iterator>

#include "../hip/hip_api.h"

namespace rocmforge::hip {
namespace {

constexpr size_t alignment = 256;
// Of small tensors many fit into a region of this size.
constexpr size_t least_region = 1 << 20;

}  // namespace

Arena::~Arena() {
  for (const auto& [memory, part] : parts_) {
    if (part.begins_region) api().free(memory);
  }
}

void* Arena::take(size_t bytes) {
  const size_t wanted = std::max<size_t>((bytes + alignment - 1) / alignment, 1) * alignment;
  const std::lock_guard<std::mutex> guard(lock_);
  auto fitting = unused_.lower_bound({wanted, nullptr});
  if (fitting == unused_.end()) {
    if (!add_region(wanted)) return nullptr;
    fitting = unused_.lower_bound({wanted, nullptr});
  }
  const auto part = parts_.find(fitting->second);
  set_used(part);
  const size_t rest = part->second.bytes - wanted;
  if (rest > 0) {
    part->second.bytes = wanted;
    set_unused(parts_.emplace(part->first + wanted, Part{rest, false, false}).first);
  }
  return part->first;
}

void Arena::give_back(void* memory) {
  if (memory == nullptr) return;
  const std::lock_guard<std::mutex> guard(lock_);
  auto part = parts_.find(static_cast<char*>(memory));
  if (part == parts_.end()) return;
  const auto next = std::next(part);
  if (next != parts_.end() && !next->second.used && !next->second.begins_region) {
    unused_.erase({next->second.bytes, next->first});
    part->second.bytes += next->second.bytes;
    parts_.erase(next);
  }
  if (!part->second.begins_region && !std::prev(part)->second.used) {
    const auto before = std::prev(part);
    unused_.erase({before->second.bytes, before->first});
    before->second.bytes += part->second.bytes;
    parts_.erase(part);
    part = before;
  }
  set_unused(part);
}

bool Arena::add_region(size_t bytes) {
  void* memory = nullptr;
  size_t size = std::max(bytes, least_region);
  if (api().malloc(&memory, size) != 0) {
    release_unused_regions();
    size = bytes;
    if (api().malloc(&memory, size) != 0) return false;
  }
  set_unused(parts_.emplace(static_cast<char*>(memory), Part{size, false, true}).first);
  return true;
}

void Arena::release_unused_regions() {
  for (auto part = parts_.begin(); part != parts_.end();) {
    const auto next = std::next(part);
    const bool is_whole =
        part->second.begins_region && (next == parts_.end() || next->second.begins_region);
    if (is_whole && !part->second.used) {
      unused_.erase({part->second.bytes, part->first});
      api().free(part->first);
      parts_.erase(part);
    }
    part = next;
  }
}

void Arena::set_unused(Parts::iterator part) {
  part->second.used = false;
  unused_.insert({part->second.bytes, part->first});
}

void Arena::set_used(Parts::iterator part) {
  part->second.used = true;
  unused_.erase({part->second.bytes, part->first});
}

}  // namespace rocmforge::hip

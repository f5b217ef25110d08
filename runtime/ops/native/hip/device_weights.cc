#include "device_weights.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <vector>

#include "kernel.h"

namespace rocmforge::hip {
namespace {

constexpr int64_t plane_alignment = 256;
constexpr int64_t most_staged = 64 << 20;  // bytes that are repacked at a time
constexpr int64_t least_of_thread = 1 << 20;
constexpr int64_t most_threads = 8;

int64_t threads_for(int64_t bytes) {
  const int64_t wanted = std::min(bytes / least_of_thread + 1, most_threads);
  return std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, wanted);
}

// As split_into_planes, rows shared among threads.
void split_together(BlockFormat format, const uint8_t* blocks, int64_t rows, int64_t columns,
                    const PlaneLayout& layout, uint8_t* const planes[plane_count]) {
  const int64_t row_bytes = columns / block_shape(format).columns * block_shape(format).bytes;
  const int64_t each = ceiling_divide(rows, threads_for(rows * row_bytes));
  std::vector<std::jthread> threads;
  for (int64_t first = 0; first < rows; first += each) {
    threads.emplace_back([=, &layout] {
      uint8_t* from_first[plane_count];
      for (int i = 0; i < plane_count; ++i) {
        from_first[i] = planes[i] + first * layout.row_bytes[i];
      }
      split_into_planes(format, blocks + first * row_bytes, std::min(each, rows - first), columns,
                        from_first);
    });
  }
}

}  // namespace

DeviceWeights::Offsets DeviceWeights::offsets_of(const PlaneLayout& layout, int64_t rows) {
  Offsets offsets{};
  for (int i = 0; i < plane_count; ++i) {
    const int64_t end = offsets.of[i] + rows * layout.row_bytes[i];
    offsets.of[i + 1] = ceiling_divide(end, plane_alignment) * plane_alignment;
  }
  return offsets;
}

DeviceWeights::DeviceWeights(const char* op, BlockFormat format, const uint8_t* blocks,
                             int64_t rows, int64_t columns)
    : layout_(plane_layout(format, columns)),
      rows_(rows),
      columns_(columns),
      offsets_(offsets_of(layout_, rows)),
      memory_(op, offsets_[plane_count], "weights") {
  const int64_t row_bytes = columns / block_shape(format).columns * block_shape(format).bytes;
  int64_t staged_row = 0;
  for (int64_t bytes : layout_.row_bytes) staged_row += bytes;
  const int64_t together =
      std::clamp<int64_t>(most_staged / staged_row, 1, std::max<int64_t>(rows, 1));
  std::vector<uint8_t> staged(static_cast<size_t>(together * staged_row));
  for (int64_t first = 0; first < rows; first += together) {
    const int64_t count = std::min(together, rows - first);
    uint8_t* planes[plane_count];
    uint8_t* next = staged.data();
    for (int i = 0; i < plane_count; ++i) {
      planes[i] = next;
      next += count * layout_.row_bytes[i];
    }
    split_together(format, blocks + first * row_bytes, count, columns, layout_, planes);
    for (int i = 0; i < plane_count; ++i) {
      const int64_t bytes = layout_.row_bytes[i];
      if (bytes == 0) continue;
      check(api().memcpy(memory_.data() + offsets_[i] + first * bytes, planes[i],
                         static_cast<size_t>(count * bytes), CopyKind::host_to_device),
            "copying weights to the GPU");
    }
  }
}

std::shared_ptr<const DeviceWeights> DeviceWeights::upload(const char* op, BlockFormat format,
                                                           const uint8_t* blocks, int64_t rows,
                                                           int64_t columns) {
  if (columns % part_columns != 0) {
    throw Failure(op, "columns",
                  "are " + std::to_string(columns) + ", the GPU kernels need " + "multiples of " +
                      std::to_string(part_columns));
  }
  // By their place: an embedding that is the output matrix too is uploaded once.
  using Place = std::tuple<const uint8_t*, BlockFormat, int64_t, int64_t>;
  static std::mutex lock;
  static std::map<Place, std::weak_ptr<const DeviceWeights>> uploaded;
  const std::lock_guard<std::mutex> guard(lock);
  auto& known = uploaded[Place{blocks, format, rows, columns}];
  std::shared_ptr<const DeviceWeights> weights = known.lock();
  if (weights == nullptr) {
    weights = std::make_shared<const DeviceWeights>(op, format, blocks, rows, columns);
    known = weights;
  }
  return weights;
}

}  // namespace rocmforge::hip

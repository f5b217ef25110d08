// A HIP runtime without a GPU, for tests: device memory is the host's, streams run at once, and a
// launch from a code object calls back whoever computes what the kernel would.
//
// It has what the providers and the launcher call. Of ONNX Runtime's own kernels for ROCm only Gather
// is computed, since most models' graphs have no other.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using Error = int;
constexpr Error success = 0, out_of_memory = 2, no_device = 100, invalid_image = 200,
                not_found = 500;
constexpr int attribute_processors = 63, attribute_warp = 87;

struct Dimensions {
  uint32_t x, y, z;
};
using Stream = void*;

// Called for every launch: what the code object is called, grid, threads of a block, LDS bytes,
// stream, arguments.
using Executor = void (*)(const char*, const Dimensions*, uint32_t, uint32_t, Stream, void**);

const char* variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

size_t size_of(const char* name, const char* otherwise) {
  return std::strtoull(variable(name, otherwise), nullptr, 10);
}

struct Device {
  int count = static_cast<int>(size_of("STUB_DEVICES", "1"));
  int warp = static_cast<int>(size_of("STUB_WARP", "64"));
  std::string architecture = variable("STUB_ARCHITECTURE", "gfx942:sramecc+:xnack-");
  size_t memory = size_of("STUB_MEMORY", "1073741824");
  size_t used = 0;
  std::mutex lock;
  std::map<void*, size_t> sizes;
  std::map<const void*, std::string> built_in;  // the provider's own kernels
  std::set<void*> functions;
  Executor executor = nullptr;
  int64_t synchronizations = 0, unknown_launches = 0, to_host = 0, to_device = 0, within = 0;
  int64_t allocations = 0;

  Error allocate(void** memory_out, size_t bytes) {
    const std::lock_guard<std::mutex> guard(lock);
    if (used + bytes > memory) return out_of_memory;
    *memory_out = std::aligned_alloc(256, (bytes + 256) / 256 * 256);
    // What a kernel reads before it was written shows itself.
    std::memset(*memory_out, 0x7b, bytes);
    sizes[*memory_out] = bytes;
    used += bytes;
    ++allocations;
    return success;
  }

  Error release(void* pointer) {
    const std::lock_guard<std::mutex> guard(lock);
    const auto found = sizes.find(pointer);
    if (found == sizes.end()) return pointer == nullptr ? success : not_found;
    used -= found->second;
    sizes.erase(found);
    std::free(pointer);
    return success;
  }

  Error copy(void* to, const void* from, size_t bytes, int kind) {
    if (kind == 1) to_device += static_cast<int64_t>(bytes);
    if (kind == 2) to_host += static_cast<int64_t>(bytes);
    if (kind == 3) within += static_cast<int64_t>(bytes);
    std::memmove(to, from, bytes);
    return success;
  }
};

Device& device() {
  static Device the_device;
  return the_device;
}

// onnxruntime::rocm::_GatherKernel<T>: rows of the input by their indices.
void gather(void** arguments, size_t value_bytes) {
  const auto input_block = *static_cast<int64_t*>(arguments[0]);
  const auto indices_max = *static_cast<int64_t*>(arguments[1]);
  const auto output_block = *static_cast<int32_t*>(arguments[2]);  // of a divisor's struct
  const auto block = *static_cast<int32_t*>(arguments[3]);
  const auto* indices = *static_cast<const char**>(arguments[4]);
  const auto index_bytes = *static_cast<size_t*>(arguments[5]);
  const auto* input = *static_cast<const char**>(arguments[6]);
  auto* output = *static_cast<char**>(arguments[7]);
  const auto count = *static_cast<int32_t*>(arguments[8]);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t within = i % output_block, at = within / block;
    int64_t index = index_bytes == 4 ? reinterpret_cast<const int32_t*>(indices)[at]
                                     : reinterpret_cast<const int64_t*>(indices)[at];
    if (index < 0) index += indices_max;
    const int64_t from = i / output_block * input_block + index * block + within % block;
    std::memcpy(output + i * value_bytes, input + from * value_bytes, value_bytes);
  }
}

thread_local struct {
  Dimensions grid, block;
  size_t shared;
  Stream stream;
} pushed;

}  // namespace

// What the tests call.
EXPORT void stub_set_executor(Executor executor) { device().executor = executor; }
EXPORT void stub_set_memory(size_t bytes) { device().memory = bytes; }
// Whether an address lies in memory that hipMalloc gave.
EXPORT int stub_is_on_device(void* address) {
  const std::lock_guard<std::mutex> guard(device().lock);
  auto after = device().sizes.upper_bound(address);
  if (after == device().sizes.begin()) return 0;
  const auto& [begin, size] = *--after;
  return static_cast<char*>(address) < static_cast<char*>(begin) + size;
}
EXPORT int64_t stub_count(const char* what) {
  const std::string name = what;
  const Device& it = device();
  if (name == "synchronizations") return it.synchronizations;
  if (name == "unknown launches") return it.unknown_launches;
  if (name == "bytes to host") return it.to_host;
  if (name == "bytes to device") return it.to_device;
  if (name == "bytes within") return it.within;
  if (name == "allocations") return it.allocations;
  if (name == "bytes used") return static_cast<int64_t>(it.used);
  return -1;
}

// What a compiler's start-up code calls for the kernels that a library brings.
EXPORT void** __hipRegisterFatBinary(const void*) {
  if (std::getenv("STUB_ABORT") != nullptr) std::abort();  // as ROCm does where it is unhappy
  static void* handle;
  return &handle;
}
EXPORT void __hipUnregisterFatBinary(void**) {}
EXPORT void __hipRegisterVar(void**, void*, char*, char*, int, size_t, int, int) {}
EXPORT void __hipRegisterFunction(void**, const void* host, char*, const char* name, unsigned,
                                  void*, void*, void*, void*, int*) {
  device().built_in[host] = name;
}
EXPORT Error __hipPushCallConfiguration(Dimensions grid, Dimensions block, size_t shared,
                                        Stream stream) {
  pushed = {grid, block, shared, stream};
  return success;
}
EXPORT Error __hipPopCallConfiguration(Dimensions* grid, Dimensions* block, size_t* shared,
                                       Stream* stream) {
  *grid = pushed.grid;
  *block = pushed.block;
  *shared = pushed.shared;
  *stream = pushed.stream;
  return success;
}
EXPORT Error hipLaunchKernel(const void* function, Dimensions, Dimensions, void** arguments, size_t,
                             Stream) {
  const std::string& name = device().built_in[function];
  if (name.find("_GatherKernelIi") != std::string::npos) {
    gather(arguments, 4);
  } else {
    ++device().unknown_launches;
  }
  return success;
}

// The device.
EXPORT Error hipInit(unsigned) { return device().count > 0 ? success : no_device; }
EXPORT Error hipGetDeviceCount(int* count) {
  *count = device().count;
  return *count > 0 ? success : no_device;
}
EXPORT Error hipGetDevice(int* number) {
  *number = 0;
  return success;
}
EXPORT Error hipSetDevice(int) { return success; }
EXPORT Error hipRuntimeGetVersion(int* version) {
  *version = 70200000;
  return success;
}
EXPORT Error hipDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == attribute_warp         ? device().warp
           : attribute == attribute_processors ? 304
                                               : 1024;
  return success;
}
EXPORT Error hipGetDevicePropertiesR0600(void* properties, int number) {
  if (number >= device().count) return no_device;
  // The number's own name of those that commas part, or the last.
  std::string_view architecture = device().architecture;
  for (size_t comma; number > 0 && (comma = architecture.find(',')) != std::string_view::npos;) {
    architecture.remove_prefix(comma + 1);
    --number;
  }
  architecture = architecture.substr(0, architecture.find(','));
  // The fields of hipDeviceProp_tR0600 that are read, at their places.
  auto* bytes = static_cast<char*>(properties);
  std::memset(bytes, 0, 1472);
  const auto put = [&](size_t at, auto value) { std::memcpy(bytes + at, &value, sizeof(value)); };
  std::strcpy(bytes, "stub");
  put(288, device().memory);
  put(296, size_t{65536});
  put(308, device().warp);
  put(320, 1024);
  for (size_t axis = 0; axis < 3; ++axis) put(336 + 4 * axis, 2147483647);
  put(360, 9);
  put(364, 4);
  put(388, 304);
  put(624, 2048);
  std::memcpy(bytes + 1160, architecture.data(), architecture.size());
  return success;
}
EXPORT Error hipMemGetInfo(size_t* free, size_t* total) {
  *free = device().memory - device().used;
  *total = device().memory;
  return success;
}
EXPORT const char* hipGetErrorName(Error error) {
  return error == success ? "hipSuccess" : "hipErrorStub";
}
EXPORT const char* hipGetErrorString(Error error) {
  return error == out_of_memory ? "out of memory" : error == no_device ? "no device" : "stub error";
}
EXPORT Error hipGetLastError() { return success; }
EXPORT Error hipPeekAtLastError() { return success; }

// Memory.
EXPORT Error hipMalloc(void** memory, size_t bytes) { return device().allocate(memory, bytes); }
EXPORT Error hipFree(void* memory) { return device().release(memory); }
EXPORT Error hipHostMalloc(void** memory, size_t bytes, unsigned) {
  *memory = std::aligned_alloc(4096, (bytes + 4096) / 4096 * 4096);
  return success;
}
EXPORT Error hipHostFree(void* memory) {
  std::free(memory);
  return success;
}
EXPORT Error hipMemcpy(void* to, const void* from, size_t bytes, int kind) {
  ++device().synchronizations;
  return device().copy(to, from, bytes, kind);
}
EXPORT Error hipMemcpyAsync(void* to, const void* from, size_t bytes, int kind, Stream) {
  return device().copy(to, from, bytes, kind);
}
EXPORT Error hipMemcpyWithStream(void* to, const void* from, size_t bytes, int kind, Stream) {
  ++device().synchronizations;
  return device().copy(to, from, bytes, kind);
}
EXPORT Error hipMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, int kind, Stream) {
  for (size_t row = 0; row < height; ++row) {
    device().copy(static_cast<char*>(to) + row * to_pitch,
                  static_cast<const char*>(from) + row * from_pitch, width, kind);
  }
  return success;
}
EXPORT Error hipMemset(void* memory, int value, size_t bytes) {
  std::memset(memory, value, bytes);
  return success;
}
EXPORT Error hipMemsetAsync(void* memory, int value, size_t bytes, Stream) {
  std::memset(memory, value, bytes);
  return success;
}

// Streams and events: everything has happened when a call returns.
EXPORT Error hipDeviceSynchronize() {
  ++device().synchronizations;
  return success;
}
EXPORT Error hipStreamCreateWithFlags(Stream* stream, unsigned) {
  static uintptr_t last = 0x5000;
  *stream = reinterpret_cast<Stream>(last += 0x10);
  return success;
}
EXPORT Error hipStreamDestroy(Stream) { return success; }
EXPORT Error hipStreamSynchronize(Stream) {
  ++device().synchronizations;
  return success;
}
EXPORT Error hipStreamWaitEvent(Stream, void*, unsigned) { return success; }
EXPORT int hipGetStreamDeviceId(Stream) { return 0; }
EXPORT Error hipEventCreate(void** event) {
  *event = event;
  return success;
}
EXPORT Error hipEventCreateWithFlags(void** event, unsigned) {
  *event = event;
  return success;
}
EXPORT Error hipEventDestroy(void*) { return success; }
EXPORT Error hipEventRecord(void*, Stream) { return success; }
EXPORT Error hipEventSynchronize(void*) {
  ++device().synchronizations;
  return success;
}
EXPORT Error hipEventElapsedTime(float* milliseconds, void*, void*) {
  *milliseconds = 0.1f;
  return success;
}
EXPORT Error hipLaunchHostFunc(Stream, void (*function)(void*), void* data) {
  function(data);
  return success;
}

// Graphs are never used here.
EXPORT Error hipStreamBeginCapture(Stream, int) { return success; }
EXPORT Error hipStreamEndCapture(Stream, void**) { return success; }
EXPORT Error hipGraphInstantiate(void**, void*, void**, char*, size_t) { return success; }
EXPORT Error hipGraphLaunch(void*, Stream) { return success; }
EXPORT Error hipGraphDestroy(void*) { return success; }
EXPORT Error hipGraphExecDestroy(void*) { return success; }

// Code objects: here one is its name behind a magic word, and has every symbol.
EXPORT Error hipModuleLoadData(void** module, const void* image) {
  constexpr std::string_view magic = "STUB:";
  const std::string_view code = static_cast<const char*>(image);
  if (!code.starts_with(magic)) return invalid_image;
  *module = new std::string(code.substr(magic.size()));  // lives as long as the process
  return success;
}
EXPORT Error hipModuleUnload(void*) { return success; }
EXPORT Error hipModuleGetFunction(void** function, void* module, const char*) {
  device().functions.insert(module);
  *function = module;
  return success;
}
EXPORT Error hipModuleLaunchKernel(void* function, unsigned grid_x, unsigned grid_y,
                                   unsigned grid_z, unsigned block_x, unsigned block_y,
                                   unsigned block_z, unsigned shared, Stream stream,
                                   void** arguments, void** extra) {
  if (!device().functions.contains(function) || extra != nullptr || arguments == nullptr) {
    return not_found;
  }
  const Dimensions grid{grid_x, grid_y, grid_z};
  if (device().executor != nullptr) {
    device().executor(static_cast<std::string*>(function)->c_str(), &grid,
                      block_x * block_y * block_z, shared, stream, arguments);
  }
  return success;
}

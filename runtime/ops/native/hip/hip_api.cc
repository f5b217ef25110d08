#include "hip_api.h"

#include <dlfcn.h>

#include "../context.h"

namespace rocmforge::hip {
namespace {

// As Python found it, or as the linker finds the newest.
std::string library_name = "libamdhip64.so.7";
int device_number = 0;

template <typename Pointer>
void find(void* library, const char* name, Pointer& function) {
  function = reinterpret_cast<Pointer>(dlsym(library, name));
  if (function == nullptr) {
    throw Failure("HIP", library_name, std::string("lacks the function ") + name);
  }
}

Api load() {
  void* library = dlopen(library_name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Failure("HIP", "cannot be loaded:", dlerror());
  Api api;
  find(library, "hipSetDevice", api.set_device);
  find(library, "hipMalloc", api.malloc);
  find(library, "hipFree", api.free);
  find(library, "hipMemGetInfo", api.memory_info);
  find(library, "hipMemset", api.memset);
  find(library, "hipMemcpy", api.memcpy);
  find(library, "hipMemcpyAsync", api.memcpy_async);
  find(library, "hipMemcpy2DAsync", api.memcpy_rows);
  find(library, "hipMemsetAsync", api.memset_async);
  find(library, "hipHostMalloc", api.host_malloc);
  find(library, "hipHostFree", api.host_free);
  find(library, "hipStreamCreateWithFlags", api.stream_create);
  find(library, "hipStreamDestroy", api.stream_destroy);
  find(library, "hipStreamSynchronize", api.stream_synchronize);
  find(library, "hipStreamWaitEvent", api.stream_wait);
  find(library, "hipEventCreateWithFlags", api.event_create);
  find(library, "hipEventDestroy", api.event_destroy);
  find(library, "hipEventRecord", api.event_record);
  find(library, "hipEventSynchronize", api.event_synchronize);
  find(library, "hipModuleLoadData", api.module_load);
  find(library, "hipModuleGetFunction", api.module_function);
  find(library, "hipModuleLaunchKernel", api.launch);
  find(library, "hipGetErrorString", api.error_text);
  return api;
}

}  // namespace

void use(const std::string& library, int device) {
  library_name = library;
  device_number = device;
}

const Api& api() {
  static const Api loaded = load();
  // HIP keeps a device for each thread.
  thread_local const Error chosen = loaded.set_device(device_number);
  if (chosen != 0) throw Failure("HIP", "cannot use the GPU:", loaded.error_text(chosen));
  return loaded;
}

void check(Error error, const std::string& doing) {
  if (error != 0) {
    throw Failure("HIP", doing, std::string("failed: ") + api().error_text(error));
  }
}

}  // namespace rocmforge::hip

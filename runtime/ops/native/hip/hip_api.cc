#include "hip_api.h"

#include <dlfcn.h>

#include "../context.h"

namespace rocmforge::hip {
namespace {

// The release of ROCm that the provider is built for.
constexpr const char* library_name = "libamdhip64.so.7";

template <typename Pointer>
void find(void* library, const char* name, Pointer& function) {
  function = reinterpret_cast<Pointer>(dlsym(library, name));
  if (function == nullptr) {
    throw Failure("HIP", library_name, std::string("lacks the function ") + name);
  }
}

Api load() {
  void* library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Failure("HIP", "cannot be loaded:", dlerror());
  Api api;
  find(library, "hipMalloc", api.malloc);
  find(library, "hipFree", api.free);
  find(library, "hipMemGetInfo", api.memory_info);
  find(library, "hipMemset", api.memset);
  find(library, "hipMemcpy", api.memcpy);
  find(library, "hipMemcpyAsync", api.memcpy_async);
  find(library, "hipModuleLoadData", api.module_load);
  find(library, "hipModuleGetFunction", api.module_function);
  find(library, "hipModuleLaunchKernel", api.launch);
  find(library, "hipGetErrorString", api.error_text);
  return api;
}

}  // namespace

const Api& api() {
  static const Api loaded = load();
  return loaded;
}

void check(Error error, const std::string& doing) {
  if (error != 0) {
    throw Failure("HIP", doing, std::string("failed: ") + api().error_text(error));
  }
}

}  // namespace rocmforge::hip

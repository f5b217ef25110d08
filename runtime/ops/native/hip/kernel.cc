#include "kernel.h"

#include <algorithm>
#include <mutex>

#include "../context.h"

namespace rocmforge::hip {
namespace {

struct Kernels {
  std::mutex lock;
  std::map<std::string, std::shared_ptr<CompiledKernel>> by_name;
};

Kernels& kernels() {
  static Kernels all;
  return all;
}

bool fits(std::string_view wanted, std::string_view compiled) {
  return wanted == "*" ? compiled.starts_with('*') : wanted == compiled;
}

void load(CompiledKernel& kernel) {
  Module module = nullptr;
  check(api().module_load(&module, kernel.code.data()), "loading the kernel " + kernel.name);
  check(api().module_function(&kernel.function, module, kernel.symbol.c_str()),
        "finding " + kernel.symbol + " in the kernel " + kernel.name);
}

}  // namespace

void add_kernel(CompiledKernel kernel) {
  const std::lock_guard<std::mutex> guard(kernels().lock);
  std::shared_ptr<CompiledKernel>& known = kernels().by_name[kernel.name];
  if (known != nullptr && known->code == kernel.code && known->types == kernel.types) return;
  known = std::make_shared<CompiledKernel>(std::move(kernel));
}

std::shared_ptr<const CompiledKernel> find_kernel(const std::string& name,
                                                  std::initializer_list<std::string_view> types) {
  const std::lock_guard<std::mutex> guard(kernels().lock);
  const auto found = kernels().by_name.find(name);
  if (found == kernels().by_name.end()) {
    throw Failure("ROCm", name, "is a GPU kernel that this build does not have");
  }
  CompiledKernel& kernel = *found->second;
  if (!std::equal(types.begin(), types.end(), kernel.types.begin(), kernel.types.end(), fits)) {
    throw Failure("ROCm", name, "was compiled with other arguments than this build launches");
  }
  if (kernel.function == nullptr) load(kernel);
  return found->second;
}

void launch(const CompiledKernel& kernel, Stream stream, Grid grid, void** arguments) {
  if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0) return;
  const Error error =
      api().launch(kernel.function, static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                   static_cast<unsigned>(grid.z), kernel.threads, 1, 1, kernel.lds_bytes, stream,
                   arguments, nullptr);
  if (error != 0) check(error, "launching the kernel " + kernel.name);
}

}  // namespace rocmforge::hip

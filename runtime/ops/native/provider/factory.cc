// What ONNX Runtime calls when this library is registered as one of an execution provider.
#include "../export.h"
#include "../operator.h"
#include "provider.h"
#include "stream.h"
#include "transfer.h"

namespace rocmforge::hip {
namespace {

// The one that ONNX Runtime asks for devices and providers, until the library is unregistered.
class Factory : public ort::Factory {
 public:
  Factory() {
    require(ort::create_memory_info("ROCmForge", ort::DeviceKind::gpu, amd, 0,
                                    ort::DeviceMemory::usual, 0, ort::AllocatorKind::device,
                                    &memory_));
    name = [](const ort::Factory*) { return provider_name; };
    vendor = [](const ort::Factory*) { return "ROCmForge"; };
    vendor_number = [](const ort::Factory*) { return amd; };
    version_text = [](const ort::Factory*) { return provider_version; };
    find_devices = [](ort::Factory* self, const ort::HardwareDevice* const* devices, size_t count,
                      ort::ProviderDevice** found, size_t most, size_t* found_count) {
      return guard(provider_name, [&] {
        *found_count = most == 0 ? 0 : static_cast<Factory*>(self)->find(devices, count, found);
      });
    };
    create_provider = [](ort::Factory* self, const ort::HardwareDevice* const*,
                         const ort::KeyValuePairs* const*, size_t, const ort::SessionOptions*,
                         const ort::Logger*, ort::Provider** made) {
      return guard(provider_name,
                   [&] { *made = new Provider(static_cast<Factory*>(self)->memory_); });
    };
    release_provider = [](ort::Factory*, ort::Provider* provider) {
      delete static_cast<Provider*>(provider);
    };
    create_allocator = [](ort::Factory* self, const ort::MemoryInfo*, const ort::KeyValuePairs*,
                          ort::AllocatorCallbacks** made) {
      return guard(provider_name,
                   [&] { *made = make_plain_allocator(static_cast<Factory*>(self)->memory_); });
    };
    release_allocator = [](ort::Factory*, ort::AllocatorCallbacks* allocator) {
      hip::release_allocator(allocator);
    };
    create_transfer = [](ort::Factory*, ort::TransferCallbacks** made) {
      return guard(provider_name, [&] { *made = new Transfer; });
    };
    has_streams = [](const ort::Factory*) { return true; };
    create_stream = [](ort::Factory*, const ort::MemoryDevice*, const ort::KeyValuePairs*,
                       ort::StreamCallbacks** made) {
      return guard(provider_name, [&] { *made = new SessionStream; });
    };
  }
  ~Factory() { ort::release_memory_info(memory_); }
  Factory(const Factory&) = delete;
  Factory& operator=(const Factory&) = delete;

 private:
  // One device, since HIP is shown one GPU. Where ONNX Runtime sees none, as in a container
  // without /sys, it is listed under the CPU.
  size_t find(const ort::HardwareDevice* const* devices, size_t count,
              ort::ProviderDevice** found) {
    const ort::HardwareDevice* host = nullptr;
    const ort::HardwareDevice* best = nullptr;
    for (size_t i = 0; i < count; ++i) {
      const ort::DeviceKind kind = ort::hardware_kind(devices[i]);
      if (kind == ort::DeviceKind::cpu) host = devices[i];
      if (kind == ort::DeviceKind::gpu && ort::hardware_vendor(devices[i]) == amd && !best) {
        best = devices[i];
      }
    }
    if (best == nullptr) best = host;
    if (best == nullptr) return 0;
    require(ort::create_device(this, best, nullptr, nullptr, found));
    require(ort::add_allocator(*found, memory_));
    return 1;
  }

  ort::MemoryInfo* memory_ = nullptr;
};

}  // namespace
}  // namespace rocmforge::hip

ROCMFORGE_EXPORT rocmforge::ort::Status* CreateEpFactories(const char*,
                                                           const rocmforge::ort::ApiBase* base,
                                                           const rocmforge::ort::Logger*,
                                                           rocmforge::ort::Factory** factories,
                                                           size_t most, size_t* made) {
  namespace ort = rocmforge::ort;
  // The table of an older version has the same functions at the same places.
  ort::api = base->get_api(ort::provider_api_version);
  ort::provider_functions = ort::provider_api();
  *made = 0;
  return rocmforge::guard(rocmforge::hip::provider_name, [&] {
    if (most == 0) return;
    factories[0] = new rocmforge::hip::Factory;
    *made = 1;
  });
}

ROCMFORGE_EXPORT rocmforge::ort::Status* ReleaseEpFactory(rocmforge::ort::Factory* factory) {
  delete static_cast<rocmforge::hip::Factory*>(factory);
  return nullptr;
}

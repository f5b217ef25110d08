// The part of ONNX Runtime's C interface by which a library brings an execution provider of its
// own, from ONNX Runtime 1.24 on.
//
// As with ort_api.h: the wheels ship no headers, tables only grow at their ends, and an object that
// ONNX Runtime calls back says which version it was written for. Callbacks behind the last that is
// declared are null, which ONNX Runtime takes as absent. tests/current checks the layouts by what
// the installed library does with them.
#pragma once

#include "../ort_api.h"

namespace rocmforge::ort {

struct MemoryInfo;
struct MemoryDevice;
struct HardwareDevice;
struct ProviderDevice;
struct KeyValuePairs;
struct Graph;
struct GraphNode;
struct GraphSupport;
struct Logger;
struct RunOptions;
struct SyncStream;
struct KernelRegistry;
struct KernelBuilder;
struct KernelDefinition;
struct DataType;

// The version of the interface that these declarations are of.
constexpr uint32_t provider_api_version = 24;

enum class DeviceKind : int { cpu = 0, gpu = 1 };
enum class DeviceMemory : int { usual = 0, host_accessible = 5 };
enum class AllocatorKind : int { device = 0 };

constexpr Function<void(MemoryInfo*)> release_memory_info{94};
constexpr Function<DeviceKind(const HardwareDevice*)> hardware_kind{307};
constexpr Function<uint32_t(const HardwareDevice*)> hardware_vendor{308};
constexpr Function<void* const*()> provider_api{317};
constexpr Function<Status*(const char* name, DeviceKind, uint32_t vendor, int32_t number,
                           DeviceMemory, size_t alignment, AllocatorKind, MemoryInfo**)>
    create_memory_info{320};
constexpr Function<Status*(const Graph*, size_t* count)> node_count{344};
constexpr Function<Status*(const Graph*, const GraphNode** nodes, size_t count)> graph_nodes{345};
constexpr Function<Status*(const GraphNode*, const char** domain)> node_domain{351};
constexpr Function<void*(SyncStream*)> stream_handle{384};

// The second table of functions, for providers; set by CreateEpFactories.
inline void* const* provider_functions = nullptr;

template <typename Signature>
struct ProviderFunction;

template <typename Result, typename... Arguments>
struct ProviderFunction<Result(Arguments...)> {
  size_t slot;
  Result operator()(Arguments... arguments) const {
    return reinterpret_cast<Result (*)(Arguments...)>(provider_functions[slot])(arguments...);
  }
};

struct Factory;
struct KernelCallbacks;
using CreateKernel = Status* (*)(void* state, const KernelInfo*, KernelCallbacks**);

constexpr ProviderFunction<Status*(Factory*, const HardwareDevice*, const KeyValuePairs* metadata,
                                   const KeyValuePairs* options, ProviderDevice**)>
    create_device{0};
constexpr ProviderFunction<Status*(GraphSupport*, const GraphNode*)> support_node{3};
constexpr ProviderFunction<Status*(ProviderDevice*, const MemoryInfo*)> add_allocator{5};
constexpr ProviderFunction<const MemoryDevice*(const Value*)> memory_of_value{7};
constexpr ProviderFunction<DeviceKind(const MemoryDevice*)> memory_kind{9};
constexpr ProviderFunction<uint32_t(const MemoryDevice*)> memory_vendor{11};
constexpr ProviderFunction<Status*(KernelRegistry**)> create_registry{18};
constexpr ProviderFunction<void(KernelRegistry*)> release_registry{19};
constexpr ProviderFunction<Status*(KernelRegistry*, const KernelDefinition*, CreateKernel,
                                   void* state)>
    add_kernel{20};
constexpr ProviderFunction<Status*(KernelBuilder**)> create_builder{21};
constexpr ProviderFunction<void(KernelBuilder*)> release_builder{22};
constexpr ProviderFunction<Status*(KernelBuilder*, const char* name)> set_operator{23};
constexpr ProviderFunction<Status*(KernelBuilder*, const char* domain)> set_domain{24};
constexpr ProviderFunction<Status*(KernelBuilder*, int first, int last)> set_versions{25};
constexpr ProviderFunction<Status*(KernelBuilder*, const char* provider)> set_provider{26};
constexpr ProviderFunction<Status*(KernelBuilder*, size_t input, MemoryType)> set_input_memory{27};
constexpr ProviderFunction<Status*(KernelBuilder*, size_t output, MemoryType)> set_output_memory{
    28};
constexpr ProviderFunction<Status*(KernelBuilder*, const char* parameter, const DataType* const*,
                                   size_t count)>
    set_types{29};
constexpr ProviderFunction<Status*(KernelBuilder*, KernelDefinition**)> build_definition{32};
constexpr ProviderFunction<void(KernelDefinition*)> release_definition{33};
constexpr ProviderFunction<Status*(ElementType, const DataType**)> tensor_type{40};
constexpr ProviderFunction<Status*(GraphSupport*, const GraphNode*, const KernelDefinition**)>
    find_kernel{41};

// Places of callbacks that a later ONNX Runtime may look for.
using Absent = void*;

struct AllocatorCallbacks {
  uint32_t version = provider_api_version;
  void* (*allocate)(AllocatorCallbacks*, size_t bytes) = nullptr;
  void (*free)(AllocatorCallbacks*, void* memory) = nullptr;
  const MemoryInfo* (*info)(const AllocatorCallbacks*) = nullptr;
  void* (*reserve)(AllocatorCallbacks*, size_t bytes) = nullptr;
  Absent later[8] = {};
};

struct TransferCallbacks {
  uint32_t version = provider_api_version;
  void (*release)(TransferCallbacks*) = nullptr;
  bool (*can_copy)(const TransferCallbacks*, const MemoryDevice* from,
                   const MemoryDevice* to) = nullptr;
  Status* (*copy)(TransferCallbacks*, const Value** from, Value** to, SyncStream** streams,
                  size_t count) = nullptr;
  Absent later[8] = {};
};

struct NotificationCallbacks {
  uint32_t version = provider_api_version;
  void (*release)(NotificationCallbacks*) = nullptr;
  Status* (*activate)(NotificationCallbacks*) = nullptr;
  Status* (*wait_on_device)(NotificationCallbacks*, SyncStream*) = nullptr;
  Status* (*wait_on_host)(NotificationCallbacks*) = nullptr;
  Absent later[8] = {};
};

struct StreamCallbacks {
  uint32_t version = provider_api_version;
  void (*release)(StreamCallbacks*) = nullptr;
  void* (*handle)(StreamCallbacks*) = nullptr;
  Status* (*create_notification)(StreamCallbacks*, NotificationCallbacks**) = nullptr;
  Status* (*flush)(StreamCallbacks*) = nullptr;
  Status* (*end_run)(StreamCallbacks*) = nullptr;
  Absent later[8] = {};
};

struct KernelCallbacks {
  uint32_t version = provider_api_version;
  uint32_t flags = 0;
  Status* (*compute)(KernelCallbacks*, KernelContext*) = nullptr;
  void (*release)(KernelCallbacks*) = nullptr;
  Absent later[8] = {};
};

struct Provider {
  uint32_t version = provider_api_version;
  const char* (*name)(const Provider*) = nullptr;
  Status* (*claim_nodes)(Provider*, const Graph*, GraphSupport*) = nullptr;
  Absent compiles[2] = {};
  Absent layouts[2] = {};
  Absent set_options = nullptr;
  Status* (*begin_run)(Provider*, const RunOptions*) = nullptr;
  Status* (*end_run)(Provider*, const RunOptions*, bool synchronizes) = nullptr;
  Status* (*create_allocator)(Provider*, const MemoryInfo*, AllocatorCallbacks**) = nullptr;
  Status* (*create_stream)(Provider*, const MemoryDevice*, StreamCallbacks**) = nullptr;
  Absent compatibility = nullptr;
  Status* (*registry)(Provider*, const KernelRegistry**) = nullptr;
  Status* (*runs_together)(Provider*, bool* result) = nullptr;
  Absent later[24] = {};
};

struct Factory {
  uint32_t version = provider_api_version;
  const char* (*name)(const Factory*) = nullptr;
  const char* (*vendor)(const Factory*) = nullptr;
  Status* (*find_devices)(Factory*, const HardwareDevice* const*, size_t count, ProviderDevice**,
                          size_t most, size_t* found) = nullptr;
  Status* (*create_provider)(Factory*, const HardwareDevice* const*, const KeyValuePairs* const*,
                             size_t count, const SessionOptions*, const Logger*,
                             Provider**) = nullptr;
  void (*release_provider)(Factory*, Provider*) = nullptr;
  uint32_t (*vendor_number)(const Factory*) = nullptr;
  const char* (*version_text)(const Factory*) = nullptr;
  Absent validate_model = nullptr;
  Status* (*create_allocator)(Factory*, const MemoryInfo*, const KeyValuePairs*,
                              AllocatorCallbacks**) = nullptr;
  void (*release_allocator)(Factory*, AllocatorCallbacks*) = nullptr;
  Status* (*create_transfer)(Factory*, TransferCallbacks**) = nullptr;
  bool (*has_streams)(const Factory*) = nullptr;
  Status* (*create_stream)(Factory*, const MemoryDevice*, const KeyValuePairs*,
                           StreamCallbacks**) = nullptr;
  Absent later[24] = {};
};

}  // namespace rocmforge::ort

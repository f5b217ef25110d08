#include "provider.h"

#include <string_view>
#include <vector>

#include "../hip/hip_api.h"
#include "../operator.h"
#include "arena.h"
#include "registry.h"
#include "stream.h"

namespace rocmforge::hip {
namespace {

// How ONNX Runtime reaches memory; what differs is where it comes from.
class Allocator : public ort::AllocatorCallbacks {
 public:
  explicit Allocator(const ort::MemoryInfo* info) : info_(info) {
    AllocatorCallbacks::allocate = [](ort::AllocatorCallbacks* self, size_t bytes) {
      return bytes == 0 ? nullptr : static_cast<Allocator*>(self)->take(bytes);
    };
    AllocatorCallbacks::free = [](ort::AllocatorCallbacks* self, void* memory) {
      static_cast<Allocator*>(self)->give_back(memory);
    };
    AllocatorCallbacks::info = [](const ort::AllocatorCallbacks* self) {
      return static_cast<const Allocator*>(self)->info_;
    };
    reserve = AllocatorCallbacks::allocate;
  }
  virtual ~Allocator() = default;

 private:
  virtual void* take(size_t bytes) = 0;
  virtual void give_back(void* memory) = 0;

  const ort::MemoryInfo* info_;
};

class PlainAllocator final : public Allocator {
 public:
  using Allocator::Allocator;

 private:
  void* take(size_t bytes) override {
    void* memory = nullptr;
    return api().malloc(&memory, bytes) == 0 ? memory : nullptr;
  }
  void give_back(void* memory) override { api().free(memory); }
};

class SessionAllocator final : public Allocator {
 public:
  using Allocator::Allocator;

 private:
  void* take(size_t bytes) override { return arena_.take(bytes); }
  void give_back(void* memory) override { arena_.give_back(memory); }

  Arena arena_;
};

// Our operators and those of ONNX that have a kernel here.
void claim(const ort::Graph* graph, ort::GraphSupport* support) {
  size_t count = 0;
  require(ort::node_count(graph, &count));
  std::vector<const ort::GraphNode*> nodes(count);
  require(ort::graph_nodes(graph, nodes.data(), count));
  for (const ort::GraphNode* node : nodes) {
    const char* domain = nullptr;
    const ort::KernelDefinition* known = nullptr;
    require(ort::node_domain(node, &domain));
    require(ort::find_kernel(support, node, &known));
    if (known != nullptr || domain == std::string_view(domain_name)) {
      require(ort::support_node(support, node));
    }
  }
}

}  // namespace

ort::AllocatorCallbacks* make_plain_allocator(const ort::MemoryInfo* info) {
  return new PlainAllocator(info);
}

void release_allocator(ort::AllocatorCallbacks* allocator) {
  delete static_cast<Allocator*>(allocator);
}

Provider::Provider(const ort::MemoryInfo* memory)
    : memory_(memory), registry_(make_registry(provider_name)) {
  name = [](const ort::Provider*) { return provider_name; };
  claim_nodes = [](ort::Provider*, const ort::Graph* graph, ort::GraphSupport* support) {
    return guard(provider_name, [&] { claim(graph, support); });
  };
  registry = [](ort::Provider* self, const ort::KernelRegistry** result) -> ort::Status* {
    *result = static_cast<Provider*>(self)->registry_;
    return nullptr;
  };
  create_allocator = [](ort::Provider* self, const ort::MemoryInfo*,
                        ort::AllocatorCallbacks** made) {
    return guard(provider_name,
                 [&] { *made = new SessionAllocator(static_cast<Provider*>(self)->memory_); });
  };
  create_stream = [](ort::Provider*, const ort::MemoryDevice*, ort::StreamCallbacks** made) {
    return guard(provider_name, [&] { *made = new SessionStream; });
  };
  // One arena, one stream, one step at a time.
  runs_together = [](ort::Provider*, bool* result) -> ort::Status* {
    *result = false;
    return nullptr;
  };
}

Provider::~Provider() { ort::release_registry(registry_); }

}  // namespace rocmforge::hip

#include "stream.h"

#include "../operator.h"

namespace rocmforge::hip {
namespace {

// A place in a stream that other streams or the host wait for. Owned by ONNX Runtime.
class Notification : public ort::NotificationCallbacks {
 public:
  explicit Notification(Stream stream) : stream_(stream) {
    check(api().event_create(&event_, event_without_times), "making an event");
    release = [](ort::NotificationCallbacks* self) { delete static_cast<Notification*>(self); };
    activate = [](ort::NotificationCallbacks* self) {
      return guard("stream", [&] {
        const auto* it = static_cast<Notification*>(self);
        check(api().event_record(it->event_, it->stream_), "recording an event");
      });
    };
    wait_on_device = [](ort::NotificationCallbacks* self, ort::SyncStream* waiting) {
      return guard("stream", [&] {
        const auto* it = static_cast<Notification*>(self);
        check(api().stream_wait(ort::stream_handle(waiting), it->event_, 0),
              "letting a stream wait");
      });
    };
    wait_on_host = [](ort::NotificationCallbacks* self) {
      return guard("stream", [&] {
        check(api().event_synchronize(static_cast<Notification*>(self)->event_),
              "waiting for a stream");
      });
    };
  }
  ~Notification() { api().event_destroy(event_); }
  Notification(const Notification&) = delete;
  Notification& operator=(const Notification&) = delete;

 private:
  Stream stream_;
  Event event_ = nullptr;
};

}  // namespace

SessionStream::SessionStream() {
  check(api().stream_create(&stream_, stream_that_waits), "making a stream");
  release = [](ort::StreamCallbacks* self) { delete static_cast<SessionStream*>(self); };
  handle = [](ort::StreamCallbacks* self) { return static_cast<SessionStream*>(self)->stream_; };
  create_notification = [](ort::StreamCallbacks* self, ort::NotificationCallbacks** made) {
    return guard("stream",
                 [&] { *made = new Notification(static_cast<SessionStream*>(self)->stream_); });
  };
  flush = [](ort::StreamCallbacks* self) {
    return guard("stream", [&] {
      check(api().stream_synchronize(static_cast<SessionStream*>(self)->stream_),
            "waiting for the end of a step");
    });
  };
  end_run = [](ort::StreamCallbacks*) -> ort::Status* { return nullptr; };
}

SessionStream::~SessionStream() { api().stream_destroy(stream_); }

}  // namespace rocmforge::hip

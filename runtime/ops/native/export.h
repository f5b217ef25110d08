// Marks the plain C functions that ONNX Runtime and Python call.
#pragma once

#define ROCMFORGE_EXPORT extern "C" __attribute__((visibility("default")))

"""The custom operators of the ONNX domain `com.rocmforge`: definitions in NumPy, kernels in C++."""

"""Triton sources of the operators, the same for every GPU.

Each kernel's definition is the operator's in `runtime.ops.reference`; arguments stand in the order
of `runtime.ops.gpu.variants`. Capitals are fixed when a kernel is compiled.
"""

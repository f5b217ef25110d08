"""Triton sources of the operators, the same for every GPU.

`runtime.ops.reference` defines each kernel's operator; arguments are in the order of
`runtime.ops.gpu.variants`. Names in capitals are fixed at compile time.
"""

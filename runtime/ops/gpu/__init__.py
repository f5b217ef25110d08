"""The operators as GPU kernels: Triton sources, what they are compiled to, weights in planes.

`kernels/` holds the sources, `variants` says which kernels there are, `build` compiles them ahead
of time, `manifest` tells a session what was compiled, and `planes` how weights lie in GPU memory.
Only `build` and `kernels/` need Triton.
"""

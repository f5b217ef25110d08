"""Say what an AMD GPU needs on this machine, what is there and what is missing.

Lists the kernel driver, ROCm, ONNX Runtime's package, the compiled kernels and each GPU with the
execution provider that serves it. The last line says where a model would run, in the words of
`--device rocm`. The exit status is 1 if no GPU can be used.
"""

import argparse

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, "gpu")


def run(options: argparse.Namespace) -> None:
    from runtime.device.doctor import examine
    from runtime.device.gpu import find_gpu

    settings = settings_of(options)
    for finding in examine():
        mark = "ok     " if finding.is_there else "missing"
        print(f"{mark}  {finding.subject:<20}  {finding.words}")
    # Raises what `--device rocm` says if no GPU can be used.
    gpu = find_gpu(settings.gpu)
    print(f"A model would run on GPU {gpu.number}: {gpu}, with {gpu.provider}.")

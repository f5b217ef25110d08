"""The model in ONNX Runtime: providers, the mapped weights and the page pool bound in place."""

import weakref
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.device import (
    CPU_PROVIDER,
    BoundStep,
    CandidateSearch,
    DeviceMemory,
    DevicePool,
    Gpu,
    GpuMemory,
    HostPool,
    PagePool,
    StatePool,
    cpu_instead,
    gpu_memory,
    mebibytes,
    open_session,
    select_device,
)
from runtime.errors import DeviceError, PreparationError, UnsupportedModel
from runtime.interface import pool_shape
from runtime.manifest import GRAPH_NAME, Manifest, hold
from runtime.ops.library import library_path, native_library
from runtime.packed_weights import PackedArrays
from runtime.page_tiers import PageTiers, has_tiers, open_tiers
from runtime.sampling import Logits, StepLogits
from runtime.settings import CPU_CACHE_TOKENS, Settings
from runtime.states import slots_needed
from runtime.step import PROMPT_LOGITS, StepInputs, largest_step
from runtime.turns import Turns
from runtime.weights import Weights

WEIGHTS_FOLDER_OPTION = "session.model_external_initializers_file_folder_path"
ONNX_RUNTIME_WARNINGS_OFF = 3


def memory_bytes(manifest: Manifest, settings: Settings) -> int:
    """Return the bytes of a model on the CPU: weights, KV caches and states, without overhead."""
    layout = manifest.page_layout
    tokens = settings.cache_tokens or CPU_CACHE_TOKENS
    states = slots_needed(settings.max_batch_size) * layout.bytes_per_state()
    snapshots = settings.state_snapshot_bytes if states else 0
    pages = tokens * layout.bytes_per_token()
    further = settings.kv_ram_bytes if has_tiers(manifest, settings) else 0
    return manifest.weights.size + pages + further + states + snapshots


class Session:
    """A loaded model and its page pool. Owned by the thread that calls `run`.

    On the CPU the weights are mapped, never copied: vectors from the GGUF, matrices from their
    packed copy if there is one. On a GPU they are repacked into its memory from the mapped GGUF.
    The pool is one float16 array [layers, pages, 2, kv_heads, page_size, head_dim] that every step
    reads and writes in place.

    profile_prefix: if given, ONNX Runtime writes each operator's times to a file with this prefix,
    which makes it slower. turns: shared by the sessions that take turns on the processors.

    Raises ModelNotFound, PreparationError (wrong files), WeightsChanged (files that change
    meanwhile), UnsupportedModel (the GPU's kernels lack something) or DeviceError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Settings,
        profile_prefix: Path | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._turns = turns or Turns()
        weakref.finalize(self, hold(folder).close)
        self.manifest = Manifest.read(folder)
        self.weights = Weights.open(folder, self.manifest)
        """The mapped files of the weights, which are watched for changes."""
        weakref.finalize(self, self.weights.close)
        self.device = select_device(settings.device, settings.gpu)
        try:
            self._load(folder, settings, profile_prefix)
        except UnsupportedModel as error:
            if self.device.gpu is None or settings.device == "rocm":
                raise
            self.device = cpu_instead(error)
            self._load(folder, settings, profile_prefix)
        self._bound: BoundStep | None = None
        self._states: StatePool | None = None
        self.page_count = -(-(settings.cache_tokens or CPU_CACHE_TOKENS) // settings.page_size)
        """Number of pages in the pool."""
        self.state_slot_count = self._state_slot_count(settings)
        """Number of slots in the pool of states; 0 for a model without states."""
        self._search = None
        self._device_memory: DeviceMemory | None = None
        if self.device.gpu is not None:
            self._search = CandidateSearch()
            self._device_memory = DeviceMemory(self.device.gpu.provider, self.device.gpu.number)
        if self._device_memory is None:
            shape = pool_shape(self.manifest.page_layout, self.page_count, settings.page_size)
            self._pool: PagePool = HostPool(shape)
        else:
            self._pool = self._device_pool(settings, self._device_memory)
        if self.state_slot_count:
            self._states = StatePool(self.state_slot_count, self.manifest.page_layout)
        if self.device.gpu is None:
            self.weights.watch()

    def _state_slot_count(self, settings: Settings) -> int:
        """Slots for the most sequences at once, and for the snapshots that the settings allow."""
        if (size := self.manifest.page_layout.bytes_per_state()) == 0:
            return 0
        snapshots = min(settings.state_snapshot_bytes // size, self.page_count)
        return slots_needed(settings.max_batch_size) + snapshots

    def _load(self, folder: Path, settings: Settings, profile_prefix: Path | None) -> None:
        """Create the session on the device. On the CPU it borrows the packed weights' maps."""
        if self.device.gpu is not None and self.manifest.page_layout.state_values:
            raise UnsupportedModel(
                f"the model cannot run on the GPU {self.device.gpu}: for the recurrent layers of "
                f"{self.manifest.architecture} there are no kernels (--device cpu runs it without)"
            )
        if self.device.gpu is not None and (pooled := self.manifest.pooled) and not pooled.causal:
            raise UnsupportedModel(
                f"the model cannot run on the GPU {self.device.gpu}: its kernels attend to earlier "
                "tokens only (--device cpu runs it without)"
            )
        packed: PackedArrays = {}
        if self.device.gpu is None and settings.weights == "packed":
            packed = self.weights.packed(settings.packed_folder, settings.packed_bytes)
        # The session borrows these maps and values: they live as long as it does.
        self._packed = packed
        self._values = {
            name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in packed.items()
        }
        self._session = _open(
            folder / GRAPH_NAME,
            self.manifest.weights_path(folder).parent,
            self._values,
            settings,
            self.device.gpu,
            profile_prefix,
        )

    def _device_pool(self, settings: Settings, device_memory: DeviceMemory) -> DevicePool:
        """Return a pool of the requested size, or what the weights and the largest step leave.

        That step is computed in a pool of its own, which allocates its memory and loads every
        kernel.
        """
        page_size, budget = settings.page_size, settings.token_budget
        layout = self.manifest.page_layout
        least = -(-budget // page_size)
        self._pool = DevicePool(pool_shape(layout, least, page_size), device_memory)
        rows = min(budget, settings.max_batch_size + PROMPT_LOGITS)
        try:
            self.step(largest_step(budget, rows, least))
        except Exception as error:
            memory = gpu_memory()
            raise DeviceError(
                f"a step of {budget} tokens cannot be computed on the GPU {self.device.gpu}, where "
                f"{mebibytes(memory.free_bytes)} of {mebibytes(memory.total_bytes)} MiB are free "
                "beside the model (lower --token-budget, or use --device cpu): "
                f"{' '.join(str(error).split())}"
            ) from None
        self._bound = None
        del self._pool
        if not settings.cache_tokens:
            memory = gpu_memory()
            kept = int(memory.total_bytes * (1 - settings.gpu_memory_utilization))
            page_bytes = layout.bytes_per_token() * page_size
            self.page_count = (memory.free_bytes - kept) // page_bytes
            if self.page_count < least:
                raise DeviceError(
                    f"beside the model {mebibytes(memory.free_bytes)} of "
                    f"{mebibytes(memory.total_bytes)} MiB of GPU memory are free, and "
                    f"--gpu-memory-utilization {settings.gpu_memory_utilization:g} keeps "
                    f"{mebibytes(kept)} MiB of them; a step of {budget} tokens alone needs "
                    f"{mebibytes(least * page_bytes)} MiB of KV cache. Raise the share, lower "
                    "--token-budget, or use --device cpu"
                )
        return DevicePool(pool_shape(layout, self.page_count, page_size), device_memory)

    def page_tiers(self, settings: Settings) -> PageTiers | None:
        """Return new tiers beyond the pool, as the settings ask for; None if there are none."""
        memory = self._pool if isinstance(self._pool, HostPool) else None
        return open_tiers(self.manifest, settings, memory)

    def check(self) -> None:
        """Raise WeightsChanged if the weights are no longer those that were loaded.

        Any thread may call it. On a GPU they are in its memory, where no file changes them.
        """
        if self.device.gpu is None:
            self.weights.check()

    def run(self, inputs: StepInputs) -> NDArray[np.float32]:
        """Compute one step: logits float32 [R, V], valid until the next call.

        Raises WeightsChanged instead of returning logits of changed weights.
        """
        logits: NDArray[np.float32] = self._compute(inputs, None).numpy()
        return logits

    def step(self, inputs: StepInputs) -> Logits:
        """Compute one step: logits of R rows to sample from, valid until the next call.

        On a GPU they stay there, and the largest of each row are found there. Raises WeightsChanged
        as `run` does.
        """
        if self._search is None:
            return StepLogits(self.run(inputs))
        return self._search.of(self._compute(inputs, self._device_memory))

    def _compute(self, inputs: StepInputs, logits_memory: DeviceMemory | None) -> ort.OrtValue:
        """Return the logits of one step, in the GPU's memory or, if that is None, the host's."""
        if self._bound is None or not self._bound.fits(inputs):
            self._bound = None  # frees its memory for the next
            self._bound = BoundStep(self._session, inputs, self._pool, self._states, logits_memory)
        try:
            with self._turns:
                return self._bound.run(inputs)
        finally:
            self.check()

    def end_profiling(self) -> Path:
        """End profiling; returns the file, JSON in the form of Chrome's trace events."""
        return Path(self._session.end_profiling())

    def gpu_memory(self) -> GpuMemory | None:
        """Return the memory of the GPU in use; None on the CPU."""
        return None if self.device.gpu is None else gpu_memory()


def _open(
    graph: Path,
    weights_folder: Path,
    packed: dict[str, ort.OrtValue],
    settings: Settings,
    gpu: Gpu | None,
    profile_prefix: Path | None,
) -> ort.InferenceSession:
    """Return a session on the device's provider, with our operators and the mapped weights.

    Packed matrices replace the graph's own initializers of the same name. The graph is passed as
    bytes because only then ONNX Runtime looks for its external data in the folder that is named
    here; so the GGUF may be on any file system.
    """
    options = ort.SessionOptions()
    options.log_severity_level = ONNX_RUNTIME_WARNINGS_OFF
    options.intra_op_num_threads = settings.thread_count
    # A memory plan for every shape seen would fill a GPU with blocks of every size.
    options.enable_mem_pattern = gpu is None
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    options.add_session_config_entry(WEIGHTS_FOLDER_OPTION, str(weights_folder))
    options.register_custom_ops_library(str(library_path()))
    for name, value in packed.items():
        options.add_initializer(name, value)
    provider = CPU_PROVIDER if gpu is None else gpu.provider
    native_library().rocmforge_use_row_threads(settings.thread_count)
    failed_before = native_library().rocmforge_hip_failed_allocations()
    try:
        session = open_session(
            graph.read_bytes(), options, provider, 0 if gpu is None else gpu.number
        )
    except OSError as error:
        raise PreparationError(f"{graph} cannot be read: {error.strerror}") from None
    except Exception as error:
        if gpu is not None:
            said = f"the model cannot run on the GPU {gpu}: {error} (--device cpu runs it without)"
            is_full = native_library().rocmforge_hip_failed_allocations() > failed_before
            raise (DeviceError if is_full else UnsupportedModel)(said) from None
        raise PreparationError(f"ONNX Runtime refuses {graph}: {error}") from None
    session.disable_fallback()
    if provider not in session.get_providers():
        raise DeviceError(f"ONNX Runtime does not use the GPU {gpu}, and does not say why")
    return session

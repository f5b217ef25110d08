"""The graph's inputs and outputs, bound to ONNX Runtime for steps of one shape."""

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.device.pool import HostPool, PagePool, StatePool
from runtime.device.provider import DeviceMemory
from runtime.interface import LOGITS, OUTPUTS
from runtime.step import StepInputs


class BoundStep:
    """Binds steps of one shape to ONNX Runtime; on a GPU one step only.

    Owned by the session's thread. Binding costs some tenths of a millisecond in Python, copying the
    few numbers of a step hardly any; and the steps of a generating request have the same shape
    until it needs another page.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        shaped: StepInputs,
        pool: PagePool,
        states: StatePool | None,
        logits_memory: DeviceMemory | None,
    ) -> None:
        """logits_memory: of the GPU if the logits are to be there; None: the host's."""
        self._session = session
        self._on_host = isinstance(pool, HostPool)
        self._logits: ort.OrtValue | None = None
        self._binding = session.io_binding()
        # The values only borrow the arrays; what a GPU reads is copied to it as it is bound.
        self._has_states = states is not None
        self._arrays = {name: array.copy() for name, array in self._given(shaped).items()}
        for name, array in self._arrays.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        # Results are returned in the order in which outputs are bound.
        if logits_memory is None:
            self._binding.bind_output(LOGITS)
        else:
            logits_memory.bind_new_output(self._binding, LOGITS)
        pool.bind(self._binding)
        if states is not None:
            states.bind(self._binding)

    def fits(self, inputs: StepInputs) -> bool:
        """Whether a step can be computed with it: on the host, with these shapes."""
        return self._on_host and all(
            array.shape == self._arrays[name].shape for name, array in self._given(inputs).items()
        )

    def run(self, inputs: StepInputs) -> ort.OrtValue:
        """Compute a step that fits: logits float32 [R, V], in the same memory each time."""
        for name, array in self._given(inputs).items():
            np.copyto(self._arrays[name], array)
        self._session.run_with_iobinding(self._binding)
        if self._logits is None:
            self._logits = self._binding.get_outputs()[OUTPUTS.index(LOGITS)]
        return self._logits

    def _given(self, inputs: StepInputs) -> dict[str, NDArray[np.int32]]:
        return inputs.arrays(states=self._has_states)

"""An engine made ready to run: loaded, checked against its spec, its tensors at fixed addresses."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from edgedetr.runtime.cuda.trt_log import TrtLog
from edgedetr.runtime.errors import ArtifactError, BackendError
from edgedetr.runtime.files import read_bytes
from edgedetr.runtime.spec_checks.tensors import FLOAT, check_inputs, check_outputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgedetr.runtime.spec import ModelSpec


MOST_ENGINE_BYTES = 8 << 30
"""Largest engine that is read."""


def read_engine(path: Path) -> bytes:
    """Read the file of an engine.

    Raises:
        ArtifactError: If it is no regular file, or larger than `MOST_ENGINE_BYTES`.
    """
    try:
        return read_bytes(path, MOST_ENGINE_BYTES)
    except ValueError as error:
        raise ArtifactError(f"{path} is no engine: {error}; build it again") from error


class Execution:
    """One execution context of one engine, for one thread at a time.

    Attributes:
        outputs: Type and shape of each output that the spec names.
        other_bytes: Name of each output that the spec does not know to its size, in bytes.
    """

    def __init__(self, trt: Any, path: Path, spec: ModelSpec, *, host_code: bool = False) -> None:  # noqa: ANN401
        """Load an engine; the device's context must be current, as for every other call.

        Args:
            trt: The module ``tensorrt`` or one with its API, 10.3 to 11.
            path: The engine.
            spec: What it must take and answer.
            host_code: Whether to run the code inside a version-compatible engine.

        Raises:
            ArtifactError: If the engine is damaged or not what the spec says.
            BackendError: If there is not enough memory on the device.
        """
        self._trt, self._path = trt, path
        self._log = TrtLog(trt)
        self._log.clear()
        trt.init_libnvinfer_plugins(self._log.logger, "")  # an engine with RoiAlign needs them
        self._runtime = trt.Runtime(self._log.logger)
        if host_code:
            self._runtime.engine_host_code_allowed = True
        self._engine = self._load(read_engine(path))
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BackendError(
                f"{path}: not enough memory on the GPU: {self._log.reason()}; stop other programs "
                "that use it"
            )
        inputs, outputs = self._described(spec)
        check_outputs(outputs, spec, path, self.batch)
        self.outputs = {name: outputs[name] for name in spec.output_names}
        self.other_bytes = {
            name: prod(shape) * int(self._engine.get_tensor_dtype(name).itemsize)
            for name, (_, shape) in outputs.items()
            if name not in spec.output_names
        }
        self._names = {*inputs, *outputs}

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Set where each tensor lies on the device; once and for all.

        Raises:
            BackendError: If an address is missing or the library refuses one.
        """
        for name in self._names:
            if not self._context.set_tensor_address(name, addresses[name]):
                raise BackendError(
                    f"{self._path}: the address of {name} was refused: {self._log.reason()}"
                )

    def enqueue(self, stream: int) -> None:
        """Give a stream the model to run.

        Raises:
            BackendError: If the library refuses.
        """
        self._log.clear()
        if not self._context.execute_async_v3(stream):
            raise BackendError(f"{self._path} did not run: {self._log.reason()}")

    def close(self) -> None:
        """Free the context before its engine, and the engine before its runtime."""
        self._context = None
        self._engine = None
        self._runtime = None

    def _load(self, data: bytes) -> Any:  # noqa: ANN401
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            reason = self._log.reason()
            if hasattr(self._runtime, "get_engine_validity"):  # TensorRT-RTX alone
                found, flags = self._runtime.get_engine_validity(data)
                reason += f" ({found.name.lower()}: {_flags(self._trt, flags)})"
            raise ArtifactError(
                f"{self._path} cannot be loaded: {reason}. Rebuild it here: edgedetr export engine"
            )
        return engine

    def _described(
        self, spec: ModelSpec
    ) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, tuple[str, tuple[int, ...]]]]:
        """Check the inputs, fix a free batch to the usual one, and describe inputs and outputs."""
        trt, engine = self._trt, self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = {n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT}
        if spec.input_name in inputs:
            batch = self._context.get_tensor_shape(spec.input_name)[0]
            if batch < 0:  # free: what the builder was told is usual
                _, usual, _ = engine.get_tensor_profile_shape(spec.input_name, 0)
                batch = usual[0]
            self._log.clear()  # what came of the next line is read below
            self._context.set_input_shape(spec.input_name, (batch, 3, *spec.input_hw))
        found = {n: (self._type(n), tuple(self._context.get_tensor_shape(n))) for n in names}
        taken = {n: found[n] for n in names if n in inputs}
        self.batch = check_inputs(taken, spec, self._path)
        return taken, {n: found[n] for n in names if n not in inputs}

    def _type(self, name: str) -> str:
        found = self._engine.get_tensor_dtype(name)
        return FLOAT if found == self._trt.DataType.FLOAT else str(found.name).lower()


def _flags(trt: Any, flags: Any) -> str:  # noqa: ANN401
    """Name the bits of what is wrong with an engine."""
    members = trt.EngineInvalidityDiagnostics.__members__.items()
    return ", ".join(n.lower() for n, bit in members if int(bit) & int(flags)) or "no diagnosis"

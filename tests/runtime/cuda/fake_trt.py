"""TensorRT's runtime as its Python bindings are in 10.3, in 11 and for RTX, on a fake GPU.

An engine is JSON. Its network is the one of `tiny_onnx`: the first query's first logit rises with
the mean of the image, the boxes stay. What the library would only log and answer False to is that
here too; what it would not notice, such as freed memory at an address, is a misuse.
"""

import enum
import json
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np

GAIN = 8.0
TINY = {
    "version": "10.3.0",
    "inputs": {"images": ["FLOAT", [1, 3, 8, 16]]},
    "outputs": {"logits": ["FLOAT", [1, 2, 2]], "boxes": ["FLOAT", [1, 2, 4]]},
    "bias": [[-4.0, -9.0], [-9.0, -9.0]],
    "boxes": [[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]],
    "context_bytes": 1000,
    "host_code": False,
    "plugin": None,
    "profile": [1, 1, 4],
}


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 3

    @property
    def itemsize(self):
        return {"HALF": 2}.get(self.name, 4)


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class EngineValidity(enum.Enum):
    VALID = 0
    SUBOPTIMAL = 1
    INVALID = 2


class EngineInvalidityDiagnostics(enum.IntFlag):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    MALFORMED_ENGINE = 32


def engine_bytes(**changes):
    return b"ENGINE" + json.dumps(TINY | changes).encode()


def fake_trt(gpu, name="tensorrt", version="10.3.0", **faults):
    """Make the module.

    Args:
        gpu: What it runs on.
        name: Of the package.
        version: Of the package.
        faults: ``refuse``: the numbers of the enqueues that answer False; ``refuse_address``: name
            of a tensor whose address is refused; ``allocates``: it allocates in every run.
    """
    library = _Library(gpu, name, version, faults)

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        def __init__(self):
            library.logger = self

    class Runtime(_Runtime):
        def __init__(self, logger):
            super().__init__(library, logger)

    if name == "tensorrt_rtx":
        Runtime.get_engine_validity = _engine_validity  # type: ignore[attr-defined]
    module = SimpleNamespace(
        __name__=name,
        __version__=version,
        ILogger=ILogger,
        Runtime=Runtime,
        DataType=DataType,
        TensorIOMode=TensorIOMode,
        EngineInvalidityDiagnostics=EngineInvalidityDiagnostics,
        init_libnvinfer_plugins=library.init_plugins,
    )
    return _Module(module)


class _Module:
    """Like a module it can be a key of a dictionary, and has only what it has."""

    def __init__(self, names):
        self.__dict__.update(vars(names))


class _Library:
    def __init__(self, gpu, name, version, faults):
        self.gpu, self.name, self.version, self.faults = gpu, name, version, faults
        self.enqueues = 0
        self.logger: Any = None
        self.has_plugins = False

    def init_plugins(self, logger, namespace):
        assert callable(logger.log)
        assert isinstance(namespace, str)
        self.has_plugins = True
        return True

    def error(self, text):
        self.logger.log(self.logger.ERROR, text)


class _Runtime:
    def __init__(self, library, logger):
        library.gpu.need_context("Runtime")
        assert callable(logger.log)
        self._library = library
        self.engine_host_code_allowed = False
        library.gpu.others.add(self)

    def deserialize_cuda_engine(self, data):
        library = self._library
        library.gpu.need_context("deserialize_cuda_engine")
        try:
            plan = json.loads(data.removeprefix(b"ENGINE"))
        except ValueError:
            library.error("IRuntime::deserializeCudaEngine: Error Code 1: magicTag mismatch")
            return None
        if plan["host_code"] and not self.engine_host_code_allowed:
            library.error("Engine is version-compatible but engineHostCodeAllowed is not set")
            return None
        if plan["plugin"] and not library.has_plugins:
            library.error(f"IPluginRegistry::getCreator: Error Code 4: no {plan['plugin']}")
            return None
        if plan["version"] != library.version and not plan["host_code"]:
            library.error(f"Serialization assertion failed: {plan['version']}")
            return None
        return _Engine(library, plan)


def _engine_validity(_, data):
    damaged = EngineInvalidityDiagnostics.MALFORMED_ENGINE
    return EngineValidity.INVALID, damaged if data else EngineInvalidityDiagnostics(0)


class _Engine:
    def __init__(self, library, plan):
        self._library, self._plan = library, plan
        self._tensors = {**plan["inputs"], **plan["outputs"]}
        library.gpu.others.add(self)

    @property
    def num_io_tensors(self):
        return len(self._tensors)

    def get_tensor_name(self, index):
        return list(self._tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self._plan["inputs"] else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return DataType[self._tensors[name][0]]

    def get_tensor_profile_shape(self, name, profile_index):
        assert profile_index == 0
        shape = self._plan["inputs"][name][1]
        return [[size if d == -1 else d for d in shape] for size in self._plan["profile"]]

    def create_execution_context(self):
        gpu = self._library.gpu
        gpu.need_context("create_execution_context")
        if self._plan["context_bytes"] > gpu.free_bytes:
            self._library.error("Error Code 2: OutOfMemory (no further information)")
            return None
        return _ExecutionContext(self._library, self._plan, self)


class _ExecutionContext:
    def __init__(self, library, plan, engine):
        self._library, self._plan, self._engine = library, plan, engine
        self._shapes = {n: s for n, (_, s) in (*plan["inputs"].items(), *plan["outputs"].items())}
        self._addresses: dict[str, int] = {}
        self._runs = 0
        self._busy_on: tuple[int, int] | None = None
        library.gpu.others.add(self)

    def set_input_shape(self, name, shape):
        wanted = self._plan["inputs"][name][1]
        if len(wanted) != len(shape) or any(
            w not in (-1, s) for w, s in zip(wanted, shape, strict=True)
        ):
            self._library.error(f"IExecutionContext::setInputShape: {shape} is not supported")
            return False
        self._shapes[name] = list(shape)
        if -1 in wanted:
            for output, (_, form) in self._plan["outputs"].items():
                self._shapes[output] = [shape[0] if d == -1 else d for d in form]
        return True

    def get_tensor_shape(self, name):
        return tuple(self._shapes[name])

    def set_tensor_address(self, name, address):
        self._library.gpu.need_context("set_tensor_address")
        if name == self._library.faults.get("refuse_address") or name not in self._shapes:
            self._library.error(f"invalid tensor address of {name}")
            return False
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        library, gpu = self._library, self._library.gpu
        gpu.need_context("execute_async_v3")
        library.enqueues += 1
        if library.enqueues in library.faults.get("refuse", ()):
            library.error("Error Code 1: Cuda Runtime (an illegal memory access was encountered)")
            return False
        if missing := set(self._shapes) - set(self._addresses):
            gpu.misuse(f"enqueue without an address for {sorted(missing)}")
        for name, address in self._addresses.items():
            gpu.block(address, 4 * int(np.prod(self._shapes[name])))
        stream = gpu.stream(stream)
        user = (threading.get_ident(), stream.handle)
        if self._busy_on not in (None, user):
            gpu.misuse("one execution context on two threads or streams at a time")
        self._runs += 1
        if stream.recorded is not None and (self._runs == 1 or library.faults.get("allocates")):
            stream.is_invalid = True
            library.error("Error Code 1: Cuda Runtime (operation not permitted when capturing)")
            return False
        self._busy_on = None if stream.recorded is not None else user
        stream.add(("run", _Run(self, dict(self._addresses))))
        return True

    def compute(self, addresses):
        gpu, plan = self._library.gpu, self._plan
        if addresses != self._addresses:
            gpu.misuse("a graph replays addresses that were changed since")
        self._busy_on = None
        name = next(iter(plan["inputs"]))
        images = gpu.floats(addresses[name], self._shapes[name])
        logits, boxes, *others = plan["outputs"]
        made = np.array(plan["bias"], np.float32)[None]
        made[0, 0, 0] += GAIN * images.mean()
        gpu.floats(addresses[logits], made.shape)[...] = made
        gpu.floats(addresses[boxes], (1, len(plan["boxes"]), 4))[...] = plan["boxes"]
        for other in others:
            gpu.floats(addresses[other], self._shapes[other])[...] = 0


class _Run:
    """Recorded or waiting work; it does not keep the execution context alive, as CUDA does not."""

    def __init__(self, context, addresses):
        self._context, self._addresses = weakref.ref(context), addresses
        self._gpu = context._library.gpu

    def __call__(self):
        context: Any = self._context()
        if context is None:
            self._gpu.misuse("run of an execution context after it was freed")
        context.compute(self._addresses)

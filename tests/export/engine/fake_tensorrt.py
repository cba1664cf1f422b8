"""TensorRT as its Python interface is in 10.3 and in 11: what a version lacks raises.

The names are those of the bindings (python/src/infer/pyCore.cpp and pyOnnx.cpp of NVIDIA/TensorRT)
and of the lists of what 11 removed. A network has a layer for each node of the ONNX file.
"""

import contextlib
import enum
import json
import signal
import types
from typing import Any

import onnx
import onnx.inliner
from typing_extensions import override

KINDS = {
    "Conv": "CONVOLUTION",
    "MatMul": "MATRIX_MULTIPLY",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Cast": "CAST",
}
TYPES = {1: "FLOAT", 10: "HALF", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL"}
FLAGS = "DEBUG GPU_FALLBACK REFIT VERSION_COMPATIBLE STRIP_PLAN TF32 DISABLE_TIMING_CACHE"
WEAK_FLAGS = "FP16 INT8 BF16 FP8 OBEY_PRECISION_CONSTRAINTS"
CONFIG = {"hardware_compatibility_level", "profiling_verbosity", "progress_monitor"}
CONFIG |= {"default_device_type", "DLA_core"}


class Strict:
    """An object that has only what is listed."""

    settable: frozenset[str] = frozenset()

    @override
    def __setattr__(self, name, value):
        if name not in self.settable and not name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no {name}")
        object.__setattr__(self, name, value)


def named(**values):
    return types.SimpleNamespace(**values)


class Cache(Strict):
    def __init__(self, blob):
        self._entries = set(blob.decode().split())

    def combine(self, input_cache, ignore_mismatch):
        assert not ignore_mismatch
        if "damaged" in input_cache._entries:
            return False
        self._entries |= input_cache._entries
        return True

    def serialize(self):
        return bytearray(" ".join(sorted(self._entries)).encode())


class Config(Strict):
    settable = frozenset(CONFIG)

    def __init__(self, seen):
        self._seen = seen
        seen.config = self
        seen.flags.add("TF32")

    def set_flag(self, flag):
        self._seen.flags.add(flag.name)

    def clear_flag(self, flag):
        self._seen.flags.discard(flag.name)

    def set_memory_pool_limit(self, pool, pool_size):
        self._seen.pools[pool] = pool_size

    def add_optimization_profile(self, profile):
        self._seen.profiles.append(profile._shapes)

    def create_timing_cache(self, serialized_timing_cache):
        return Cache(serialized_timing_cache)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        self._seen.cache = cache
        return True

    def get_timing_cache(self):
        return self._seen.cache


class Profile(Strict):
    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):  # noqa: A002 - the names of the bindings
        self._shapes[input] = (min, opt, max)


class Network(Strict):
    def __init__(self, flags):
        self._flags, self._layers, self._inputs, self._outputs = flags, [], [], []

    def _read(self, path, plugins):
        """Take each node of the file, and where a function says what it is and no plugin, that."""
        model = onnx.load(path)
        functions = [(f.domain, f.name) for f in model.functions if f.name not in plugins]
        if functions:
            model = onnx.inliner.inline_selected_functions(model, functions)
        graph = onnx.shape_inference.infer_shapes(model).graph
        values = [*graph.input, *graph.value_info, *graph.output]
        tensors = {v.name: self._tensor(v) for v in values}
        for constant in graph.initializer:
            tensors[constant.name] = named(
                name=constant.name, dtype=named(name=TYPES[constant.data_type]), shape=()
            )
            written = [tensors[constant.name]]
            self._layers.append(self._layer("CONSTANT", constant.name, [], written))
        for node in graph.node:
            reads = [tensors.get(n) for n in node.input]
            kind = KINDS.get(node.op_type, "ELEMENTWISE")
            kind = "PLUGIN_V2" if node.op_type in plugins else kind
            writes = [tensors[n] for n in node.output]
            self._layers.append(self._layer(kind, node.name, reads, writes))
        self._inputs = [tensors[v.name] for v in graph.input]
        self._outputs = [tensors[v.name] for v in graph.output]

    def _tensor(self, value):
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value or -1 for d in tensor.shape.dim)
        return named(name=value.name, dtype=named(name=TYPES[tensor.elem_type]), shape=shape)

    def _layer(self, kind, name, reads, writes):
        return named(
            name=name,
            type=named(name=kind),
            num_inputs=len(reads),
            num_outputs=len(writes),
            get_input=lambda i: reads[i] if i < len(reads) else None,
            get_output=lambda i: writes[i],
        )

    num_layers = property(lambda self: len(self._layers))
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_layer(self, index):
        return self._layers[index]

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]


class Builder(Strict):
    world = named()

    def __init__(self, logger):
        self._logger = logger
        if not self.world.starts:
            self._log("ERROR", "CUDA initialization failure with error: 100")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def _log(self, severity, message):
        self._logger.log(self._logger.Severity[severity], message)

    @property
    def num_DLA_cores(self):  # noqa: N802 - the name of the bindings
        return self.world.dla_cores

    def create_network(self, flags=0):
        self.world.network = Network(flags)
        return self.world.network

    def create_builder_config(self):
        return Config(self.world)

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        assert network is self.world.network
        self._log("INFO", "Total Weights Memory: 1048576 bytes")
        self._log("VERBOSE", "a tactic")
        monitor = getattr(config, "progress_monitor", None)
        with contextlib.suppress(BaseException):  # the bindings let nothing out of a callback
            if self.world.interrupt:
                signal.raise_signal(self.world.interrupt)
        if monitor is not None:
            monitor.phase_start("Building engine", None, 2)
            goes_on = monitor.step_complete("Building engine", 0)
            assert goes_on == (not self.world.interrupt)
            monitor.phase_finish("Building engine")
            if not goes_on:
                self._log("ERROR", "Build cancelled by the progress monitor")
                return None
        if self.world.fails:
            self._log("ERROR", self.world.fails)
            return None
        if self.world.cache is not None:
            self.world.cache._entries.add("timed")
        return bytearray(b"plan of " + self.world.version.encode())


class OnnxParser(Strict):
    world = named()

    def __init__(self, network, logger):
        assert hasattr(logger, "log")
        assert self.world.plugins
        self._network = network
        self.num_errors = 0 if self.world.unread is None else 1

    settable = frozenset({"num_errors"})

    def parse_from_file(self, model):
        if self.world.unread is None:
            self._network._read(model, self.world.known_plugins)
        return self.world.unread is None

    def get_error(self, index):
        assert index == 0
        said = zip(("node_name", "node_operator", "desc"), self.world.unread, strict=True)
        return named(**{name: lambda text=text: text for name, text in said})


class Runtime(Strict):
    world = named()
    settable = frozenset({"engine_host_code_allowed"})

    def __init__(self, logger):
        assert hasattr(logger, "log")
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine):
        assert serialized_engine.startswith(b"plan of ")
        if "VERSION_COMPATIBLE" in self.world.flags and not self.engine_host_code_allowed:
            return None
        layers = [*self.world.inspected, _inspected(self.world.version), "a name alone"]
        text = json.dumps({"Layers": layers})[: self.world.inspected_characters]
        inspector = named(get_engine_information=lambda _: text)
        return named(create_engine_inspector=lambda: inspector)


def fake_tensorrt(version, *, monitored=True, fails="", unread=None, starts=True, interrupt=None):
    """Make the module of a version, and the record of what it is asked for.

    Args:
        version: ``10.3.0`` or ``11.0.0``.
        monitored: Whether it has IProgressMonitor.
        fails: What it logs when a build fails; it succeeds when empty.
        unread: (node, operator, reason) that its parser stops at.
        starts: Whether a builder is returned.
        interrupt: A signal that comes in the middle of a build.
    """
    seen = named(flags=set(), pools={}, profiles=[], cache=None, config=None, network=None)
    seen.__dict__.update(version=version, fails=fails, unread=unread, starts=starts, plugins=False)
    seen.interrupt, seen.dla_cores = interrupt, 0
    seen.inspected_characters = None
    seen.inspected, seen.known_plugins = [], ()
    trt: Any = types.ModuleType("tensorrt")
    trt.__version__ = version
    old = version.startswith("10.")
    one_of: Any = enum.IntEnum
    flags = FLAGS + " " + WEAK_FLAGS if old else FLAGS
    trt.BuilderFlag = one_of("BuilderFlag", flags, start=0)
    creation = {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1} if old else {"STRONGLY_TYPED": 1}
    trt.NetworkDefinitionCreationFlag = one_of("NetworkDefinitionCreationFlag", creation)
    trt.MemoryPoolType = one_of("MemoryPoolType", "WORKSPACE TACTIC_DRAM")
    trt.ProfilingVerbosity = one_of("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
    trt.DeviceType = one_of("DeviceType", "GPU DLA")
    trt.HardwareCompatibilityLevel = one_of("HardwareCompatibilityLevel", "NONE AMPERE_PLUS")
    trt.LayerInformationFormat = one_of("LayerInformationFormat", "ONELINE JSON")
    severities = one_of("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")
    trt.ILogger = type("ILogger", (), {"Severity": severities})
    if monitored:
        trt.IProgressMonitor = type("IProgressMonitor", (), {})
    trt.init_libnvinfer_plugins = lambda _, namespace: seen.__dict__.update(plugins=namespace == "")
    for kind in (Builder, OnnxParser, Runtime):
        setattr(trt, kind.__name__, type(kind.__name__, (kind,), {"world": seen}))
    return trt, seen


def _inspected(version):
    """A layer as the engine inspector of either version describes it."""
    if version.startswith("10."):
        read, wrote = {"Format/Datatype": "Half"}, {"Format/Datatype": "Row major linear FP32"}
    else:
        read = {"Format": "Row major linear FP16 format (kLINEAR)", "DataType": "Half"}
        wrote = {"Format": "Row major linear FP32 format (kLINEAR)", "DataType": "Float"}
    return {"Name": "stem", "Inputs": [read], "Outputs": [wrote]}

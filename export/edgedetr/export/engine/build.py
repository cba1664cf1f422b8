"""Build an engine with `tensorrt` or `tensorrt_rtx`, whose Python interfaces are the same.

Networks are strongly typed always: the types of the ONNX graph hold, and the flags that let
TensorRT 10 choose others, gone in 11, are never set. After a build that failed in the same process
tensorrt_rtx 1.7 makes the next engine larger; the command builds one a process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedetr.export.engine.builders import version_of
from edgedetr.export.engine.dla import check_dla
from edgedetr.export.engine.log import EngineLog, OnStep, make_logger, make_monitor
from edgedetr.export.engine.precision import Precision, network_precision
from edgedetr.export.engine.timing_cache import cache_key, save_cache, start_cache
from edgedetr.graph.sampling_plugin import PLUGIN, VERSION
from edgedetr.runtime.cuda.device import find_device
from edgedetr.runtime.cuda.engine_layers import EngineLayers, engine_layers
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from edgedetr.export.engine.builders import BuilderModule
    from edgedetr.export.engine.options import EngineOptions
    from edgedetr.runtime.spec import ModelSpec

MESSAGE_CHARACTERS = 300
"""Characters of a builder's own message that are repeated; the log has all of it."""


@dataclass(frozen=True)
class Compiled:
    """What a builder made.

    Attributes:
        engine: The serialized engine.
        layers: Its layers; None where it cannot be loaded here.
        notes: Notes for the user, a line each.
    """

    engine: bytes
    layers: EngineLayers | None
    notes: tuple[str, ...]


class EngineBuild:
    """An ONNX file, parsed by a builder and ready to be compiled.

    Args:
        module: The builder's file.
        trt: Its package.
        path: The ONNX file.
        log: Where the builder's messages go.

    Raises:
        ArtifactError: If the builder does not start or cannot read the file.
    """

    def __init__(self, module: BuilderModule, trt: Any, path: Path, log: EngineLog) -> None:  # noqa: ANN401
        self._module, self._trt, self._path, self._log = module, trt, path, log
        self._logger = make_logger(trt, log)
        try:
            self._builder = trt.Builder(self._logger)
        except TypeError as error:  # how the bindings say that the library returned nothing
            raise ArtifactError(f"{version_of(trt)} does not start: {self._said()}") from error
        trt.init_libnvinfer_plugins(self._logger, "")  # RoiAlign is one
        self._network = self._builder.create_network(_strongly_typed(trt))
        self._parser = trt.OnnxParser(self._network, self._logger)
        if not self._parser.parse_from_file(str(path)):
            raise ArtifactError(self._parser_error())

    def precision(self) -> Precision:
        """Count the types of the network's layers."""
        return network_precision(self._network)

    def check_plugins(self, nodes: Collection[str]) -> None:
        """Refuse a network in which other layers compute what a plugin of TensorRT was to.

        Where the library has no such plugin, its parser takes the function in the file instead.

        Args:
            nodes: Names of the nodes that are plugins in the file.

        Raises:
            ArtifactError: With how many of them are none in the network.
        """
        layers = [self._network.get_layer(index) for index in range(self._network.num_layers)]
        made = [layer.name for layer in layers if layer.type.name.startswith("PLUGIN")]
        missing = len(nodes) - sum(name.startswith(tuple(nodes)) for name in made)
        if missing > 0:
            raise ArtifactError(
                f"{version_of(self._trt)} has no plugin {PLUGIN}, version {VERSION}, for {missing} "
                f"of {len(nodes)} nodes of {self._path}; export the model again with "
                "--deformable-attention gather, and build that"
            )

    def check_ends(self, spec: ModelSpec) -> None:
        """Refuse a network whose image, logits or boxes are not float32, or labels not int32.

        Raises:
            ArtifactError: With the tensor and its type.
        """
        network = self._network
        ends = [network.get_input(i) for i in range(network.num_inputs)]
        ends += [network.get_output(i) for i in range(network.num_outputs)]
        for tensor in ends:
            ours = tensor.name in {spec.input_name, *spec.output_names}
            wanted = "INT32" if tensor.name == spec.labels_name else "FLOAT"
            if ours and tensor.dtype.name != wanted:
                kind = "int32" if wanted == "INT32" else "float32"
                raise ArtifactError(
                    f"{self._path}: {tensor.name} is {tensor.dtype.name} and the "
                    f"runtime needs {kind}; cast it in the graph"
                )

    def compile(
        self, options: EngineOptions, stops: Callable[[], bool], on_step: OnStep | None = None
    ) -> Compiled:
        """Compile the network.

        Args:
            options: How.
            stops: Whether the build shall end; see `edgedetr.export.engine.stop`.
            on_step: Called with the progress; see `edgedetr.export.engine.log.OnStep`.

        Raises:
            ArtifactError: If the builder fails; the message has its last error.
            UsageError: If a DLA is wanted and there is none, or none that could run the network.
        """
        trt, notes = self._trt, []
        if options.dla:
            check_dla(self._builder, version_of(trt), self.precision(), self._path)
        config = self._configuration(options)
        monitor = make_monitor(trt, on_step, stops)
        if monitor is not None:
            config.progress_monitor = monitor
        key, problem = "", ""
        if options.timing_cache:
            key = cache_key(trt)
            problem = start_cache(config, options.timing_cache, key)
            notes += [problem] if problem else []
        memory = self._builder.build_serialized_network(self._network, config)
        if memory is None:
            raise ArtifactError(
                f"{version_of(trt)} cannot build {self._path}: {self._said()} (workspace "
                f"{options.workspace_mib} MiB)"
            )
        if options.timing_cache and not problem:
            save_cache(config, options.timing_cache, key)
        engine = bytes(memory)
        loadable = find_device() is not None
        layers = engine_layers(trt, self._logger, engine, host_code=True) if loadable else None
        return Compiled(engine, layers, tuple(notes))

    def _configuration(self, options: EngineOptions) -> Any:  # noqa: ANN401
        trt = self._trt
        config = self._builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # types, for the inspector
        if not options.tf32:  # the builders' default; blocks are kept in FP32 for their accuracy
            config.clear_flag(trt.BuilderFlag.TF32)
        self._module.configure(trt, config, options)
        if options.batch:
            config.add_optimization_profile(self._profile(options.batch))
        return config

    def _profile(self, batch: tuple[int, int, int]) -> Any:  # noqa: ANN401
        """Make the profile of the inputs whose batch is free."""
        profile = self._builder.create_optimization_profile()
        for index in range(self._network.num_inputs):
            tensor = self._network.get_input(index)
            rest = tuple(tensor.shape)[1:]
            if tensor.shape[0] < 0:
                profile.set_shape(tensor.name, *((size, *rest) for size in batch))
        return profile

    def _parser_error(self) -> str:
        name = version_of(self._trt)
        if not self._parser.num_errors:
            return f"{name} cannot read {self._path}: {self._said()}"
        error = self._parser.get_error(0)
        where = (
            f"node {error.node_name() or '(no name)'} ({error.node_operator() or 'no operator'})"
        )
        return f"{name} cannot read {self._path}: {where}: {_short(error.desc())}"

    def _said(self) -> str:
        return _short(self._log.last_error()) or "it gives no reason"


def _strongly_typed(trt: Any) -> int:  # noqa: ANN401
    """Return the flags of a strongly typed network; where the flag is gone, every network is."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _short(message: str) -> str:
    message = " ".join(message.split())
    return message if len(message) <= MESSAGE_CHARACTERS else message[:MESSAGE_CHARACTERS] + "..."

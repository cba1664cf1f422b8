"""What several tests share."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgedetr.runtime.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

    from edgedetr.distill.model import Model

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def terminal() -> None:
    """Start commands as a terminal does, also where the tests run in the background or in make."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        os.environ.pop(name, None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, or a skip."""
    folder = Path(os.environ.get("EDGEDETR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set EDGEDETR_SHARED_DATA to its folder")
    return folder


@pytest.fixture
def edgedetr(monkeypatch, capsys):
    """Runs the command line; returns its exit status, standard output and standard error."""
    import sys

    from edgedetr.runtime.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["edgedetr", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    hangup = signal.getsignal(signal.SIGHUP)
    yield run
    signal.signal(signal.SIGHUP, hangup)  # `run` leaves it unheard until its process ends


SPEC = ModelSpec((64, 96), ("Car", "Pedestrian", "Cyclist"))


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Model]:
    """Makes a small detector, in evaluation mode, whose weights a seed fixes."""
    pytest.importorskip("torch")
    return _make_model


def _make_model(
    family: str = "d_fine", preset: str = "edge-tiny", seed: int = 0, spec: ModelSpec = SPEC
) -> Model:
    import torch

    from edgedetr.distill.model import new_model

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = new_model(family, preset, spec)
        for parameter in model.network.parameters():  # heads that start at zero say nothing
            parameter.add_(0.02 * torch.randn_like(parameter) * parameter.requires_grad)
    model.network.eval()
    return model


@pytest.fixture(scope="session")
def settled_model(make_model: Callable[..., Model]) -> Callable[..., Model]:
    """Makes a `make_model` whose batch norms have seen a few images.

    Fresh ones would let every feature vanish, and then all queries tie.
    """

    def make(*arguments: Any, **choices: Any) -> Model:
        import torch

        from edgedetr.export.transforms.textures import textured_frames
        from edgedetr.runtime.preprocess import Preprocessor

        model = make_model(*arguments, **choices)
        images = torch.zeros(8, 3, *model.spec.input_hw)
        frames = textured_frames(model.spec.input_hw, len(images))
        for image, frame in zip(images, frames, strict=True):
            Preprocessor(model.spec)(frame, image.numpy())
        for module in model.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train()
                module.momentum = None
        model.predict(images)
        model.network.eval()
        return model

    return make


FOREIGN: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/foreign_detectors.json").read_text())
"""Of each family of transformers two sizes: names of its classes, and the options of its config."""
LABELS = {0: "N/A", 1: "person", 2: "car", 3: "N/A", 4: "bus"}


@pytest.fixture(params=FOREIGN)
def foreign_kind(request: pytest.FixtureRequest) -> str:
    """A family and size of the foreign detectors."""
    return str(request.param)


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[..., Path]:
    """Writes a random detector with transformers' save_pretrained; returns the folder."""
    transformers = pytest.importorskip("transformers")
    import torch

    def write(kind: str = "rt_detr", hw: tuple[int, int] = (64, 96), **options: Any) -> Path:
        known, folder = FOREIGN[kind], tmp_path / kind
        name, size = known["name"], {"height": hw[0], "width": hw[1]}
        given = {**known["options"], "id2label": LABELS, **options}
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            config = getattr(transformers, f"{name}Config")(**given)
            network = getattr(transformers, f"{name}ForObjectDetection")(config)
            for tensor_name, tensor in network.state_dict().items():
                if tensor_name.endswith("running_var"):
                    tensor.uniform_(0.5, 1.5)
                elif tensor.is_floating_point():  # what starts at zero says nothing
                    tensor.add_(0.1 * torch.randn_like(tensor))
        network.save_pretrained(folder)
        processor = getattr(transformers, f"{known['processor']}ImageProcessor")
        processor(size=size).save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def rewrite() -> Callable[..., None]:
    """Changes keys of a JSON file; None removes one."""

    def change(path: Path, **changes: object) -> None:
        values = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))

    return change


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> Callable[..., Path]:
    """Write ``tiny.onnx``: two queries of fixed boxes, whose logits rise with the input's mean.

    ``logits = gain * mean(images) + bias``; by default the first query's first class scores far
    above a half on a white image and far below on a black one, and nothing else ever does.
    """
    return partial(_write_tiny_onnx, tmp_path)


TINY_BOXES = ((0.5, 0.5, 0.5, 0.5), (0.25, 0.25, 0.5, 0.5))


def _write_tiny_onnx(
    folder: Path,
    *,
    spec: ModelSpec | None = None,
    store_spec: bool = True,
    batch: int | str = 1,
    bias: Sequence[Sequence[float]] = ((-4.0, -9.0), (-9.0, -9.0)),
    boxes: Sequence[Sequence[float]] = TINY_BOXES,
) -> Path:
    import numpy as np
    import onnx

    spec = spec or ModelSpec((8, 16), ("Car", "Pedestrian"))
    gain = np.zeros((1, len(bias), len(bias[0])))
    gain[0, 0, 0] = 8
    model = _build_onnx(
        [
            ("ReduceMean", "pool", [spec.input_name], "all", {"axes": [1, 2, 3], "keepdims": 1}),
            ("Squeeze", "squeeze", ["all", "axis"], "mean", {}),
            ("Mul", "amplify", ["mean", "gain"], "amplified", {}),
            ("Add", "offset", ["amplified", "bias"], spec.logits_name, {}),
            ("Mul", "stop", ["mean", "zero"], "still", {}),
            ("Add", "place", ["still", "at"], spec.boxes_name, {}),
        ],
        {"axis": [3], "gain": gain, "bias": [bias], "zero": [0.0], "at": [boxes]},
        inputs={spec.input_name: (batch, 3, *spec.input_hw)},
        outputs=(spec.logits_name, spec.boxes_name),
        spec=spec if store_spec else None,
    )
    path = folder / "tiny.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def onnx_model() -> Callable[..., onnx.ModelProto]:
    """Build an ONNX model from ``(op, name, inputs, output, {attribute: value})`` nodes.

    A tuple of outputs makes a node with several. Inputs are ``{name: shape}``, constants
    ``{name: array}``. With ``classes`` it also answers as a detector does, with one query that
    never changes.
    """
    return _build_onnx


def _build_onnx(  # noqa: PLR0913 - what a graph is made of
    nodes: Sequence[tuple[str, str, Sequence[str], str | Sequence[str], dict[str, Any]]],
    constants: dict[str, object],
    *,
    inputs: dict[str, Sequence[int | str]],
    outputs: Sequence[str],
    spec: ModelSpec | None = None,
    opset: int = 17,
    classes: int = 0,
) -> onnx.ModelProto:
    import numpy as np
    from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

    if classes:
        batch = next(iter(inputs.values()))[0]
        rows = batch if isinstance(batch, int) else 1
        logits, boxes = np.full((rows, 1, classes), -4.0), np.full((rows, 1, 4), 0.5)
        constants = {**constants, "logits": logits, "boxes": boxes}
        outputs = [*outputs, "logits", "boxes"]
    made = []
    for op, name, reads, writes, attributes in nodes:
        names = [writes] if isinstance(writes, str) else writes
        made.append(helper.make_node(op, reads, names, name, **attributes))
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    model = helper.make_model(
        helper.make_graph(
            made,
            "net",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
            [
                helper.make_tensor_value_info(
                    n, TensorProto.FLOAT, arrays[n].shape if n in arrays else None
                )
                for n in outputs
            ],
            [
                numpy_helper.from_array(a.astype(np.float32) if a.dtype == float else a, n)
                for n, a in arrays.items()
            ],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )
    if spec:
        helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    model = shape_inference.infer_shapes(model, strict_mode=True)
    del model.graph.value_info[:]
    checker.check_model(model)
    return model


class FakeCuda:
    """The CUDA driver's library on a Jetson Orin."""

    def __init__(self, failing: str = "", minor: int = 7) -> None:
        self.failing, self.minor = failing, minor

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *arguments: 100 if name == self.failing else self.answer(name, *arguments)

    def answer(self, name: str, *arguments: Any) -> int:
        if name == "cuDeviceGetName":
            arguments[0].value = b"Orin"
        if name == "cuDeviceGetAttribute":
            arguments[0]._obj.value = {75: 8, 76: self.minor}[arguments[1]]
        return 0


@pytest.fixture
def fake_cuda() -> type[FakeCuda]:
    """The class `FakeCuda`."""
    return FakeCuda


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU of compute capability 8.7."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeCuda())


@pytest.fixture
def device_record(tmp_path):
    """Writes the record of models that a device ran; returns its path."""
    from edgedetr.runtime.cuda.device import CudaDevice
    from edgedetr.runtime.device_check.agreement import Agreement
    from edgedetr.runtime.device_check.measure import EngineCheck, Pace
    from edgedetr.runtime.device_check.model_check import ModelCheck
    from edgedetr.runtime.device_check.record import make_record, write_record
    from edgedetr.runtime.files import sha256
    from edgedetr.runtime.package.private_key import load_private_key
    from edgedetr.runtime.timing import Latency

    def write(*models, folder=tmp_path, lost=0, key=None, beside=(), simulated=False):
        latency, agreed = Latency(2, 3.0, 4.0, 5.0, 6.0, 7.0), Agreement(2, 3, lost)
        check = EngineCheck("tensorrt", None, True, True, 9.5, latency, latency, 1, agreed)
        hashes = {f"models/{p.name}": sha256(p) for p in beside}
        names = {f"models/{m.name}": sha256(m) for m in models}
        checks = [ModelCheck(n, h, "", None, (), check, hashes) for n, h in names.items()]
        device = None if simulated else CudaDevice("Orin", "8.7")
        made = make_record(tmp_path / "m.tar", device, checks, Pace(2, 30.0), {}, "edgedetr")
        path = folder / "device.json"
        write_record(made, path, load_private_key(key) if key else None)
        return path

    return write

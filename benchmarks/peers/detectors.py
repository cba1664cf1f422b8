"""From frame to boxes: the same weights in other runtimes, and other detectors of like size.

A D-FINE-N and an RT-DETRv2-R18 of random weights, whose time does not depend on them, take real
frames at 640x640, the size that all of them know. The demo's trained teacher, saved by
transformers and imported, shows on rendered scenes whether the boxes are the same, too.
"""

from __future__ import annotations

import logging
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from transformers import RTDetrImageProcessor

from edgedetr.distill.model import Model, new_model
from edgedetr.distill.synth.writer import write_synth
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.distill.weights.importing import import_model
from edgedetr.export.to_onnx import export_onnx
from edgedetr.runtime.detector import Detector
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec
from edgedetr.runtime.types import Frame
from peers.rows import OURS, Row, as_published, missing, named, not_run, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SPEC = ModelSpec((640, 640), ("Car", "Pedestrian", "Cyclist"), resize="stretch")
MODELS = {"D-FINE-N": ("d_fine", "nano"), "RT-DETRv2-R18": ("rt_detr_v2", "r18")}
TEACHER = Path(__file__).parents[2] / "distill" / "checkpoints" / "synth_teacher.safetensors"
SURE = 0.3
"""Lowest score of the detections that are compared."""


class Turns:
    """Frames one after another, for each way its own place in them."""

    def __init__(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        self._frames, self._next = frames, 0

    def frame(self) -> NDArray[np.uint8]:
        """Return the next frame, RGB uint8 (H, W, 3)."""
        self._next += 1
        return self._frames[self._next % len(self._frames)]


def rows(frames: Sequence[NDArray[np.uint8]], rounds: int) -> list[Row]:
    """Compare detectors on RGB frames, uint8 (H, W, 3)."""
    made = []
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "random.safetensors"
        for name, (family, preset) in MODELS.items():
            torch.manual_seed(0)
            save_model(checkpoint, new_model(family, preset, SPEC), command="benchmarks/peers")
            made += _same_weights(f"frame to boxes, {name} at 640x640", checkpoint, frames, rounds)
        made += _imported("frame to boxes, the demo's teacher", Path(folder), rounds)
    return made + _others("frame to boxes, other detectors beside D-FINE-N", frames, rounds)


def _imported(task: str, folder: Path, rounds: int) -> list[Row]:
    """Save the teacher as transformers does, import it, and compare both on rendered scenes."""
    model, source = load_model(TEACHER), folder / "saved"
    as_published(model).save_pretrained(source)
    processor_of(model.spec).save_pretrained(source)
    write_synth(folder / "scenes", 10, seed=1)
    frames = [read_image(path) for path in list_images(folder / "scenes/training/image_2")]
    import_model(source, folder / "imported.safetensors")
    return _same_weights(task, folder / "imported.safetensors", frames, rounds, is_trained=True)


def _same_weights(
    task: str,
    checkpoint: Path,
    frames: Sequence[NDArray[np.uint8]],
    rounds: int,
    *,
    is_trained: bool = False,
) -> list[Row]:
    model = load_model(checkpoint)
    turns, transformers = Turns(frames), named("transformers", "image processor and model")
    detect = transformers_detector(model)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(checkpoint, path)
        with (
            Detector.open(path, threshold=SURE, backend="onnxruntime") as ours,
            Detector.open(path, threshold=SURE, backend="openvino") as openvino,
        ):
            ways: dict[str, Callable[[], Any]] = {
                OURS: lambda: ours.detect(Frame(turns.frame())),
                "EdgeDETR in OpenVINO": lambda: openvino.detect(Frame(turns.frame())),
                named("onnxruntime", "alone"): bare_onnxruntime(path, model.spec),
                named("openvino", "alone"): bare_openvino(path, model.spec),
                transformers: lambda: detect(turns.frame()),
            }
            notes = {}
            if is_trained:
                pairs = [(ours.detect(Frame(f)).boxes, detect(f)) for f in frames]
                notes[transformers] = _agreement(pairs)
            return timed(task, ways, notes, rounds)


def _agreement(pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> str:
    """Say how far from our boxes theirs are, each of ours from the nearest of its frame."""
    distances = [
        np.abs(ours[:, None] - theirs[None]).max(2).min(1)
        for ours, theirs in pairs
        if len(ours) and len(theirs)
    ]
    every = np.concatenate(distances) if distances else np.zeros(1)
    counts = [sum(len(boxes[side]) for boxes in pairs) for side in (0, 1)]
    return (
        f"{counts[1]} detections of score {SURE} and more beside our {counts[0]}; ours lie within "
        f"{float(np.median(every)):.2f} px of theirs (median), {float(every.max()):.1f} at most"
    )


def bare_onnxruntime(path: Path, spec: ModelSpec) -> Callable[[], Any]:
    """Return what runs an ONNX file in a plain session on one input that lies ready."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = np.zeros((1, 3, *spec.input_hw), np.float32)
    return lambda: session.run(None, {spec.input_name: images})


def bare_openvino(path: Path, spec: ModelSpec) -> Callable[[], Any]:
    """Return what runs an ONNX file in a plain OpenVINO request on one input that lies ready."""
    import openvino

    compiled = openvino.Core().compile_model(
        str(path), "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    )
    request, images = compiled.create_infer_request(), np.zeros((1, 3, *spec.input_hw), np.float32)
    return lambda: request.infer([images])


def processor_of(spec: ModelSpec) -> RTDetrImageProcessor:
    """Return the image processor of transformers that a spec describes."""
    height, width = spec.input_hw
    return RTDetrImageProcessor(
        size={"height": height, "width": width},
        do_normalize=True,
        image_mean=list(spec.mean),
        image_std=list(spec.std),
    )


def transformers_detector(model: Model) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return what finds a frame's boxes as transformers does: corners in pixels, float32 (N, 4)."""
    network, processor = as_published(model).eval(), processor_of(model.spec)

    def detect(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            outputs = network(**processor(images=frame, return_tensors="pt"))
            sizes = torch.tensor([frame.shape[:2]])
            (found,) = processor.post_process_object_detection(outputs, SURE, sizes)
        return np.asarray(found["boxes"].numpy(), np.float32)

    return detect


def _others(task: str, frames: Sequence[NDArray[np.uint8]], rounds: int) -> list[Row]:
    """Compare with detectors of other makers, of random weights and like size, in torch."""
    torch.manual_seed(0)
    model, turns = new_model("d_fine", "nano", SPEC), Turns(frames)
    preprocess, out = Preprocessor(SPEC), np.empty((3, *SPEC.input_hw), np.float32)
    images = torch.from_numpy(out)[None]
    model.network.eval()

    def ours() -> object:
        with torch.no_grad():
            preprocess(turns.frame(), out)
            return model.predict(images)

    ways: dict[str, Callable[[], Any]] = {OURS: ours}
    notes = {OURS: f"D-FINE-N in torch, {_parameters(model.network):.1f} M parameters"}
    absent = []
    for package, make in (("ultralytics", _ultralytics), ("rfdetr", _rfdetr)):
        if why := missing(package):
            absent.append(not_run(task, package, why))
            continue
        with redirect_stdout(StringIO()):
            name, note, detect = make()
        ways[name], notes[name] = (lambda d=detect: d(turns.frame())), note  # type: ignore[misc]
    return timed(task, ways, notes, rounds) + absent


def _ultralytics() -> tuple[str, str, Callable[[NDArray[np.uint8]], Any]]:
    from ultralytics import RTDETR

    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    model = RTDETR("rtdetr-resnet50.yaml")

    def detect(frame: NDArray[np.uint8]) -> object:
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        return model.predict(bgr, imgsz=640, verbose=False, device="cpu")

    note = f"RT-DETR-R50, its smallest, {_parameters(model.model):.1f} M parameters"
    return named("ultralytics", "RTDETR"), note, detect


def _rfdetr() -> tuple[str, str, Callable[[NDArray[np.uint8]], Any]]:
    from rfdetr import RFDETRNano

    model = RFDETRNano(pretrain_weights=None)
    network = model.model.model
    note = f"at its own {model.model.resolution} px, {_parameters(network):.1f} M parameters"
    return named("rfdetr", "Nano"), note, lambda frame: model.predict(frame, threshold=0.5)


def _parameters(network: torch.nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6

"""Quantize the same models with the same images by us and by others, and measure all alike.

    python benchmarks/int8_peers.py --foreign ../shared/data/deimv2_femto_qr --run runs/demo \
        --data data/synth --latency D_FINE_N.onnx --latency RT_DETR_R18.onnx

Writes ``benchmarks/results/int8_peers.json``. Peers are ONNX Runtime's ``quantize_static``, and
NNCF and NVIDIA's Model Optimizer where they are installed (``pip install nncf
'nvidia-modelopt[onnx]'``, in an environment of their own or in a folder in ``PYTHONPATH``); of one
that is not, or fails, the reason is noted. All with their defaults. Accuracy is that of graphs with
every Q/DQ pair computed as it is written: of the foreign model on the half of its images that
nobody calibrated on, as they are and in four light variations, of the demo's student on frames of
another seed. Speed is of the model alone in OpenVINO and ONNX Runtime, in turns, over FP32; the
models for it are calibrated on a few of the demo's frames, for their time does not hang on them.
"""

from __future__ import annotations

import json
import logging
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from typing_extensions import override

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.calib.collect import collect
from edgedetr.calib.frames import choose_frames, kitti_images
from edgedetr.calib.targets import TARGETS
from edgedetr.distill.data.kitti import open_dataset
from edgedetr.distill.synth.writer import write_synth
from edgedetr.export.search.trial import Scenes, Trial
from edgedetr.export.to_qdq import export_qdq
from edgedetr.graph.macs import int8_macs, macs
from edgedetr.graph.model_file import embedded_spec, load_onnx
from edgedetr.runtime.backends import onnxruntime as onnxruntime_backend
from edgedetr.runtime.backends import openvino as openvino_backend
from edgedetr.runtime.boxes import iou
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.kitti import image_paths
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import spec_from_toml
from foreign_model import MAX_SCORE_DROP, MIN_IOU, SPEC, variations
from int8_targets import (
    CALIBRATION_FRAMES,
    FRESH_FRAMES,
    FRESH_SEED,
    HALVES,
    answers,
    effect,
    summary,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec

PATH = click.Path(path_type=Path)
LATENCY_FRAMES, TURNS, WARM_UP, THREADS = 4, 12, 2, 2
PACKAGES = ("edgedetr", "onnx", "onnxruntime", "openvino")

MEASURES = (
    "calib/edgedetr/calib/bias_correction.py",
    "calib/edgedetr/calib/collect.py",
    "calib/edgedetr/calib/histogram.py",
    "calib/edgedetr/calib/placement.py",
    "calib/edgedetr/calib/rounding.py",
    "calib/edgedetr/calib/scales.py",
    "export/edgedetr/export/transforms/biases.py",
    "export/edgedetr/export/transforms/qdq_nodes.py",
    "export/edgedetr/export/transforms/quantize.py",
    "runtime/edgedetr/runtime/backends/onnxruntime.py",
    "runtime/edgedetr/runtime/backends/openvino.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--foreign", type=PATH, help="Folder of the foreign model.")
@click.option("--run", type=PATH, help="Folder of the demo's student.onnx.")
@click.option("--data", type=PATH, required=True, help="The demo's frames.")
@click.option("--latency", type=PATH, multiple=True, help="A model to time; repeatable.")
@result_option(__file__)
def main(
    foreign: Path | None, run: Path | None, data: Path, latency: tuple[Path, ...], out: Path
) -> None:
    """Measure what is given, and write the figures."""
    logging.getLogger().setLevel(logging.ERROR)
    frames = choose_frames(kitti_images(data), LATENCY_FRAMES)
    figures = {
        "foreign": measure_foreign(foreign) if foreign else {},
        "student": measure_student(run / "student.onnx", data) if run else {},
        "latency": {path.name: measure_latency(path, frames) for path in latency},
        "limits": {"max_score_drop": MAX_SCORE_DROP, "min_iou": MIN_IOU},
        "threads": THREADS,
        "versions": (*versions_of(PACKAGES), *versions_of(n for n in PEERS if find_spec(PEERS[n]))),
    }
    write_result(out, figures, MEASURES)
    click.echo(json.dumps(figures, indent=1))


PEERS = {"nncf": "nncf", "nvidia-modelopt": "modelopt"}
"""Package of a peer to its module."""


class Feeds(CalibrationDataReader):  # type: ignore[misc]
    """Network inputs of calibration images, for whoever reads them."""

    def __init__(self, spec: ModelSpec, images: Sequence[Path]) -> None:
        self.name = spec.input_name
        preprocess = Preprocessor(spec)
        self.inputs = np.zeros((len(images), 3, *spec.input_hw), np.float32)
        for fed, image in zip(self.inputs, images, strict=True):
            preprocess(read_image(image), fed)
        self._next = iter(self)

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        return ({self.name: image[None]} for image in self.inputs)

    @override
    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._next, None)


def with_onnxruntime(path: Path, feeds: Feeds, output: Path) -> None:
    """Quantize with ONNX Runtime's tool."""
    quantize_static(path, output, feeds)


def with_nncf(path: Path, feeds: Feeds, output: Path) -> None:
    """Quantize with NNCF, which writes ONNX, too."""
    import nncf

    dataset = nncf.Dataset(list(iter(feeds)))
    onnx.save(nncf.quantize(onnx.load(path), dataset, subset_size=len(feeds.inputs)), output)


def with_modelopt(path: Path, feeds: Feeds, output: Path) -> None:
    """Quantize with NVIDIA's Model Optimizer; what is not INT8 stays FP32."""
    from modelopt.onnx.quantization import quantize

    quantize(
        str(path),
        calibration_data={feeds.name: feeds.inputs},
        calibration_eps=["cpu"],
        output_path=str(output),
        high_precision_dtype="fp32",
        log_level="ERROR",
    )


QUANTIZERS: dict[str, Callable[[Path, Feeds, Path], None]] = {
    "onnxruntime quantize_static": with_onnxruntime,
    "nncf": with_nncf,
    "modelopt": with_modelopt,
}


def graphs(
    path: Path, spec: ModelSpec, images: Sequence[Path], folder: Path
) -> tuple[dict[str, Path], dict[str, str]]:
    """Quantize a model with everything that is here; return the files, and why one is missing."""
    stats, made, missing = folder / "stats.json", {}, {}
    collect(path, images, spec).write(stats)
    for target in TARGETS:
        made[f"ours, {target}"] = folder / f"{target}.onnx"
        export_qdq(path, stats, made[f"ours, {target}"], spec=spec, target=target)
    for name, quantizer in QUANTIZERS.items():
        output = folder / f"{name.split()[0]}.peer.onnx"
        reason = attempt(quantizer, path, spec, images, output)
        if reason:
            missing[name] = reason
        else:
            made[name] = output
    return made, missing


def attempt(
    quantizer: Callable[[Path, Feeds, Path], None],
    path: Path,
    spec: ModelSpec,
    images: Sequence[Path],
    output: Path,
) -> str:
    """Run a peer in a process of its own; return in a line why it made nothing.

    The Model Optimizer changes ONNX Runtime's tool in the process that it runs in.
    """
    spawn = get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            pool.submit(_run, quantizer, path, spec, tuple(images), output).result()
    except Exception as error:  # whatever a peer raises is its reason
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return ""


def _run(
    quantizer: Callable[[Path, Feeds, Path], None],
    path: Path,
    spec: ModelSpec,
    images: Sequence[Path],
    output: Path,
) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    quantizer(path, Feeds(spec, images), output)


def share(model: onnx.ModelProto) -> float:
    """Return the share of multiply-accumulates that read dequantized numbers on both sides."""
    return round(sum(int8_macs(model).values()) / sum(macs(model).values()), 4)


def measure_foreign(folder: Path) -> dict[str, Any]:
    """Measure the best box of the foreign model on images that nobody calibrated on."""
    path, spec = folder / "deimv2_femto_416.onnx", spec_from_toml(SPEC)
    images = list_images(folder / "images")
    errors: dict[str, list[tuple[bool, float, float]]] = {}
    shares: dict[str, float] = {}
    missing: dict[str, str] = {}
    for half in range(HALVES):
        unseen = [image for i, image in enumerate(images) if i % HALVES == half]
        varied = [v for image in unseen for v in variations(image)]
        wanted = answers(load_onnx(path), spec, varied)
        with tempfile.TemporaryDirectory() as name:
            seen = [image for image in images if image not in unseen]
            made, reasons = graphs(path, spec, seen, Path(name))
            missing |= reasons
            for kind, file in made.items():
                model = onnx.load(file)
                shares[kind] = share(model)
                for image, best, found in zip(
                    varied, wanted, answers(model, spec, varied), strict=True
                ):
                    overlaps = iou(best.boxes[:1], found.boxes)[0]
                    near = int(overlaps.argmax())
                    drop = float(best.scores[0] - found.scores[near])
                    is_varied = "," in image.name
                    errors.setdefault(kind, []).append((is_varied, drop, float(overlaps[near])))
    return {
        kind: {
            "int8_share": shares[kind],
            "unseen": summary([e for e in of_kind if not e[0]]),
            "unseen_varied": summary([e for e in of_kind if e[0]]),
        }
        for kind, of_kind in errors.items()
    } | {"missing": missing}


def measure_student(path: Path, data: Path) -> dict[str, Any]:
    """Measure the demo's student on fresh frames."""
    model = load_onnx(path)
    spec = embedded_spec(model, path)
    seen = choose_frames(kitti_images(data), CALIBRATION_FRAMES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made, missing = graphs(path, spec, seen, folder)
        write_synth(folder / "fresh", FRESH_FRAMES, FRESH_SEED)
        scenes = Scenes(
            tuple(image_paths(folder / "fresh", "all").values()),
            open_dataset(folder / "fresh", "all", spec.class_names).truths,
        )
        with Trial(model, spec, scenes) as trial:
            found = {kind: effect(trial, onnx.load(file)) for kind, file in made.items()}
            return {"frames": len(trial), "fp32_ap": trial.ap, **found, "missing": missing}


def measure_latency(path: Path, images: Sequence[Path]) -> dict[str, Any]:
    """Time a model in both libraries, each with what is meant for it, in turns."""
    spec = embedded_spec(load_onnx(path), path)
    with tempfile.TemporaryDirectory() as name:
        made, missing = graphs(path, spec, images, Path(name))
        files = {"fp32": path, **made}
        in_openvino = {n: f for n, f in files.items() if n in {"fp32", "ours, openvino", "nncf"}}
        others = {"ours, openvino", "nncf"}
        in_onnxruntime = {n: f for n, f in files.items() if n not in others}
        return {
            "openvino": in_turns(openvino_backend, in_openvino, spec),
            "onnxruntime": in_turns(onnxruntime_backend, in_onnxruntime, spec),
            "missing": missing,
        }


def in_turns(backend: Any, files: Mapping[str, Path], spec: ModelSpec) -> dict[str, Any]:  # noqa: ANN401
    """Return medians in ms, and the median over the turns of the ratio to FP32."""
    sessions, refused = {}, {}
    for name, file in files.items():
        try:
            sessions[name] = backend.open_session(file, spec, threads=THREADS)
        except Exception as error:  # noqa: PERF203 - what a library refuses is a result as well
            refused[name] = " ".join(str(error).split())[:300]
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(WARM_UP + TURNS):
        for name, session in sessions.items():
            session.infer()
            start_ns = perf_counter_ns()
            session.infer()
            if turn >= WARM_UP:
                samples[name].append((perf_counter_ns() - start_ns) / 1e6)
    for session in sessions.values():
        session.close()
    fp32 = np.array(samples["fp32"])
    return {
        name: {
            "ms": round(float(np.median(taken)), 1),
            "over_fp32": round(float(np.median(np.array(taken) / fp32)), 3),
        }
        for name, taken in samples.items()
    } | ({"refused": refused} if refused else {})


if __name__ == "__main__":
    main()

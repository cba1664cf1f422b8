"""Choose a backend for an artifact: by its kind, and among several by measuring them.

Where one library is installed nothing is measured. Where there are several, those that do not find
in one frame nine tenths of what ONNX Runtime on the CPU finds are left out; the others run the
model for at most `BUDGET_S` in turns, and ONNX Runtime stays unless another takes at least `MARGIN`
less time: on a tie the choice must not change from one start to the next.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from time import perf_counter_ns
from typing import TYPE_CHECKING

from edgedetr.runtime.backend_lookup import backend, suited_backend
from edgedetr.runtime.cuda.device import find_device
from edgedetr.runtime.errors import ArtifactError, BackendError, UsageError
from edgedetr.runtime.self_test import GoldenAnswer, best_detections, golden_frame, lost_detections
from edgedetr.runtime.timing import latency_from_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from edgedetr.runtime.session import Session
    from edgedetr.runtime.spec import ModelSpec

SUFFIXES = (".onnx", ".engine")

BUDGET_S = 1.0
"""How long the measuring may take for each backend, in seconds."""
MARGIN = 0.05
"""The share of ONNX Runtime's time that another backend must save to be chosen."""

_ROUNDS = 4
_RUNS = 5
_COMPARED = 20  # detections, of which two INT8 kernels may find a tenth otherwise, near ties
_BOX_ERROR = 0.05  # of the longer side; far from what a wrong kernel does, above INT8's rounding
_SCORE_ERROR = 0.1
_FIRST = 2  # runs of a turn that do not count: threads of the backend before may still spin
_LOG = logging.getLogger(__name__)


def open_session(path: Path, spec: ModelSpec | None = None, *, steady: bool = False) -> Session:
    """Load an artifact with the backend that suits it; ``runs_on`` and the log give the reason.

    Raises:
        ArtifactError: If the artifact is missing, damaged or of no kind that a backend runs.
        UsageError: If no library that runs it is installed.
    """
    if path.suffix == ".engine":
        return backend(suited_backend(path)).open_session(path, spec, steady=steady)
    return _fastest(_opened(path, spec, steady=steady))


def fastest_file(sessions: Mapping[str, Session]) -> str:
    """Choose among the files of one model, and close all other sessions.

    The first stays unless another takes at least `MARGIN` less time. Then a warning and the
    ``runs_on`` of the chosen session tell what the first does not pay.

    Args:
        sessions: An INT8 file and float ones, by name.

    Returns:
        The name of the chosen file.
    """
    first = next(iter(sessions))
    if len(sessions) == 1:
        return first
    times_ms = measure(sessions)
    chosen = _chosen(times_ms)
    for name, session in sessions.items():
        if name != chosen:
            session.close()
    if chosen != first:
        library = sessions[chosen].runs_on.partition(",")[0]
        speed = times_ms[chosen] / times_ms[first]
        said = f"{first} is not worth it in {library}: {speed:.2f}x the speed of {chosen}"
        sessions[chosen].runs_on += f"; {said}"
        _LOG.warning("%s", said)
    return chosen


def measure(sessions: Mapping[str, Session]) -> dict[str, float]:
    """Time sessions on their present input, in turns.

    Returns:
        Name to the median time of one run, in milliseconds.
    """
    samples: dict[str, list[int]] = {name: [] for name in sessions}
    for _ in range(_ROUNDS):
        for name, session in sessions.items():
            _take_turn(session, samples[name])
    return {name: latency_from_samples(taken).p50_ms for name, taken in samples.items()}


def _drop_others_that_differ(sessions: dict[str, Session]) -> None:
    """Close and remove the sessions that do not find what the first one finds."""
    (first, reference), *others = sessions.items()
    frame = golden_frame(reference.spec.input_hw)
    best = best_detections(reference, frame, _COMPARED)
    wanted = GoldenAnswer(
        first,
        tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in best.boxes.tolist()),
        tuple(best.scores.tolist()),
        tuple(best.labels.tolist()),
        box_error_px=_BOX_ERROR * max(frame.shape),
        score_error=_SCORE_ERROR,
    )
    for name, session in others:
        lost = len(lost_detections(wanted, session, frame))
        if lost > len(best) // 10:
            _LOG.warning(
                "%s is left out: it misses %d of the %d best detections of %s in a synthetic frame",
                *(name, lost, len(best), first),
            )
            sessions.pop(name).close()


def _take_turn(session: Session, samples_ns: list[int]) -> None:
    """Run some frames of a turn, fewer where they are slow."""
    until_ns = perf_counter_ns() + int(BUDGET_S / _ROUNDS * 1e9)
    for run in range(_FIRST + _RUNS):
        start_ns = perf_counter_ns()
        session.infer()
        end_ns = perf_counter_ns()
        is_late = end_ns > until_ns
        if run >= _FIRST or is_late:
            samples_ns.append(end_ns - start_ns)
        if is_late:
            return


def _candidates() -> Iterable[str]:
    """Name the backends for ONNX files whose library is installed, the first to stay on a tie."""
    if find_spec("onnxruntime"):
        from onnxruntime import get_available_providers

        yield "onnxruntime"
        if "CUDAExecutionProvider" in get_available_providers() and find_device():
            yield "onnxruntime_cuda"
    if find_spec("openvino"):
        yield "openvino"


def _opened(path: Path, spec: ModelSpec | None, *, steady: bool) -> dict[str, Session]:
    """Open an ONNX file with every backend that can; where the first finds it bad, so it is."""
    sessions: dict[str, Session] = {}
    for name in _candidates():
        try:
            sessions[name] = backend(name).open_session(path, spec, steady=steady)
        except ArtifactError as error:  # noqa: PERF203 - a few backends
            if not sessions:
                raise
            _LOG.warning("%s does not run with %s: %s", path, name, error)
        except (BackendError, UsageError, ImportError, OSError) as error:
            _LOG.warning("backend %s is not available: %s", name, error)
    if not sessions:
        raise UsageError(
            f"no installed library runs {path.suffix} files; "
            "pip install onnxruntime, or openvino for Intel processors"
        )
    return sessions


def _fastest(sessions: dict[str, Session]) -> Session:
    """Measure, close all but the chosen session and note the figures in its ``runs_on``."""
    first = next(iter(sessions))
    if len(sessions) == 1:
        return sessions[first]
    try:
        _drop_others_that_differ(sessions)
        times_ms = measure(sessions)
    except BaseException:
        for session in sessions.values():
            session.close()
        raise
    chosen = _chosen(times_ms)
    for name, session in sessions.items():
        if name != chosen:
            session.close()
    figures = ", ".join(f"{name} {time:.2f} ms" for name, time in times_ms.items())
    sessions[chosen].runs_on += f"; chosen of {figures}"
    _LOG.info("%s chosen of %s", chosen, figures)
    return sessions[chosen]


def _chosen(times_ms: Mapping[str, float]) -> str:
    """Return the fastest where it saves the `MARGIN`, and else the first."""
    first = next(iter(times_ms))
    best = min(times_ms, key=lambda name: times_ms[name])
    return best if times_ms[best] <= (1 - MARGIN) * times_ms[first] else first

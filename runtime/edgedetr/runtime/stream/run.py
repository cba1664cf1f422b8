"""Run a stream to its end, write its results and sum them up."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from edgedetr.runtime.detector import State
from edgedetr.runtime.errors import BackendError, DataError, EdgeDetrError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.stream.result_files import ResultFiles
    from edgedetr.runtime.stream.stream import Stream, StreamResult, StreamSummary

SUMMARY = "summary.json"


def run(  # noqa: PLR0913 - what a run is made of
    detector: Detector,
    stream: Stream,
    files: ResultFiles,
    *,
    out: Path | None = None,
    frames: int | None = None,
    on_result: Callable[[StreamResult], object] = lambda _: None,
    on_end: Callable[[StreamSummary], object] = lambda _: None,
) -> StreamSummary:
    """Write the results of a stream, and ``out/summary.json`` when it ends, however that is.

    Args:
        detector: The stream's detector.
        stream: What to play.
        files: What takes the results; closed at the end.
        out: Folder of the summary; none is written if None.
        frames: Stop after so many results.
        on_result: Called with every result once it is written.
        on_end: Called with the summary before any of the errors below is raised.

    Raises:
        StuckError: If the backend did not return.
        BackendError: If it failed on the last frames.
        DataError: If results could not be written to the end, no frame could be read, a camera is
            lost, or a video ends early or was damaged on the way.
    """
    ended_by = ""
    try:
        with files:
            for count, result in enumerate(stream, 1):
                files.write(result)
                on_result(result)
                if count == frames:
                    break
    except EdgeDetrError as error:
        ended_by = str(error)
        raise
    finally:
        summary = stream.summary()
        problem = files.problem
        if out:
            values = asdict(summary) | {"written": files.written, "problem": problem or ended_by}
            problem = _write(out / SUMMARY, json.dumps(values, indent=2) + "\n") or problem
        on_end(summary)
    if problem:
        raise DataError(problem)
    if summary.unreadable and not summary.frames and not stream.stop.is_set():
        raise DataError(
            f"none of {counted(summary.unreadable, 'frame')} could be read; see the messages above"
        )
    if detector.state is State.FAILED:
        raise BackendError(
            f"the backend failed on {counted(detector.failures, 'frame')}, the last ones among "
            "them; see the first message above"
        )
    return summary


def _write(path: Path, text: str) -> str:
    """Write a file; return why that failed."""
    try:
        write_text(path, text)
    except OSError as error:
        return f"{path}: cannot be written: {error.strerror or error}"
    return ""

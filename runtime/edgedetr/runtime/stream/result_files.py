"""Write a stream's results: KITTI files, JSON lines, a video. A full disk does not stop it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgedetr.runtime.conversions.kitti import to_kitti
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.kitti import check_folder, result_path
from edgedetr.runtime.printable import counted
from edgedetr.runtime.stream.result_video import ResultVideo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from edgedetr.runtime.stream.stream import StreamResult

LINES = "frames.jsonl"


class _Writer(Protocol):
    def write(self, result: StreamResult) -> None: ...

    def close(self) -> None: ...


class ResultFiles:
    """The files of one stream.

    The first failure to write, for example for want of space, ends the writing and not the stream:
    what was written stays and holds no half of anything.

    Args:
        out: New or empty folder for ``<frame>.txt`` and ``frames.jsonl``; none if None.
        video: MP4 file with what was found drawn in; none if None.
        rate_hz: How fast the video plays.
        class_names: Names of the classes.
        on_problem: Called once with the reason when writing ends early.

    Attributes:
        written: Frames of which everything was written.
        problem: Why writing ended early; empty if it did not.

    Raises:
        UsageError: If ``out`` holds results.
    """

    def __init__(
        self,
        out: str | os.PathLike[str] | None,
        video: str | os.PathLike[str] | None,
        *,
        rate_hz: float,
        class_names: Sequence[str],
        on_problem: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.written = 0
        self.problem = ""
        self._on_problem = on_problem
        self._writers: list[_Writer] = []
        if out:
            out = Path(out)
            check_folder(out)
            if (out / LINES).exists():
                raise UsageError(f"{out} holds other results ({LINES}); choose another folder")
            out.mkdir(parents=True, exist_ok=True)
            self._writers += [_KittiFiles(out, class_names), _JsonLines(out / LINES, class_names)]
        if video:
            self._writers.append(ResultVideo(video, rate_hz, class_names))

    def write(self, result: StreamResult) -> None:
        """Write one frame's results, unless writing has ended."""
        if self.problem:
            return
        try:
            for writer in self._writers:
                writer.write(result)
            self.written += 1
        except OSError as error:
            self._end(error)

    def close(self) -> None:
        """Finish the files; a second call does nothing."""
        while self._writers:
            self._close(self._writers.pop())

    def _close(self, writer: _Writer) -> None:
        try:
            writer.close()
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        """Keep and report the first problem."""
        if not self.problem:
            self.problem = (
                f"results are no longer written, after {counted(self.written, 'frame')}: "
                f"{error.filename or LINES}: {error.strerror or error}"
            )
            self._on_problem(self.problem)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _KittiFiles:
    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self._folder = folder
        self._class_names = class_names

    def write(self, result: StreamResult) -> None:
        path = result_path(self._folder, result.frame.frame_id)
        write_text(path, to_kitti(result.detections, self._class_names))

    def close(self) -> None:
        pass


class _JsonLines:
    """Whole lines only, each in the file before the next frame."""

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        self._path = path
        self._class_names = class_names
        self._file = path.open("wb", buffering=0)

    def write(self, result: StreamResult) -> None:
        line = json.dumps(_values(result, self._class_names)).encode() + b"\n"
        start, written = self._file.tell(), 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
        finally:
            if written < len(line):
                os.ftruncate(self._file.fileno(), start)

    def close(self) -> None:
        self._file.close()


def _values(result: StreamResult, class_names: Sequence[str]) -> dict[str, Any]:
    found = result.detections
    detections: list[dict[str, Any]] = [
        {
            "class": class_names[label],
            "score": round(float(score), 4),
            "box": [round(float(side), 2) for side in box],
        }
        for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True)
    ]
    if result.track_ids is not None:
        for values, number in zip(detections, result.track_ids, strict=True):
            values["track"] = int(number) or None
    return {
        "frame": result.frame.frame_id,
        "captured_ns": result.frame.timestamp_ns,
        "age_ms": round(result.age_ns / 1e6, 3),
        "latency_ms": round(result.latency_ns / 1e6, 3),
        "dropped": result.dropped,
        "missed": result.missed,
        "detections": detections,
    }

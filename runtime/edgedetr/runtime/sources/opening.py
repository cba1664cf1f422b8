"""Open a source by what the user names: a folder, a video, a camera, a URL or a pipeline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images.reading import SUFFIXES, list_images
from edgedetr.runtime.kitti import check_names
from edgedetr.runtime.sources.camera import CameraSource, is_live, open_camera
from edgedetr.runtime.sources.capture import DEFAULT_RATE_HZ
from edgedetr.runtime.sources.playback import PacedSource, TimedSource
from edgedetr.runtime.sources.recordings import FolderRecording, VideoRecording

if TYPE_CHECKING:
    from edgedetr.runtime.sources.capture import RatedSource


def open_source(
    source: str | os.PathLike[str], rate_hz: float | None, deadline_ns: int
) -> RatedSource:
    """Open a folder of images, a video file, a camera or a network stream.

    Args:
        source: A folder or file, or the number of a camera, ``/dev/video*``, a URL such as
            ``rtsp://...``, or a GStreamer pipeline that ends in ``appsink``.
        rate_hz: Frames per second at which a folder or video plays, or requested of a camera. A
            video plays by its own time stamps if None.
        deadline_ns: Age from which a frame is dropped.

    Raises:
        DataError: If there is no such folder, video or camera, or it holds no frame.
    """
    text = os.path.expanduser(source)  # noqa: PTH111 - a pipeline is no path
    if is_live(text):
        rate_hz = rate_hz or DEFAULT_RATE_HZ
        return CameraSource(open_camera(text, rate_hz), deadline_ns, rate_hz=rate_hz)
    path = Path(text)
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        video = VideoRecording(path)
        if rate_hz is None:
            return TimedSource(video, deadline_ns)
        return PacedSource(video, rate_hz, deadline_ns)
    if not path.exists():
        raise DataError(f"{path}: no such folder or file; wanted images, a video or a camera")
    paths = list_images(path)
    check_names([p.stem for p in paths])
    return PacedSource(FolderRecording(paths), rate_hz or DEFAULT_RATE_HZ, deadline_ns)

"""Find JPEG files whose scans lack pixels, which a decoder would silently fill in.

A file that was cut and given an end marker decodes without an error: blocks that are not there
become middle grey, and refinements of a progressive file stay undone (ITU-T T.81, annexes F and G).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgedetr.runtime.images.headers import JPEG_MAGIC, jpeg_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_TABLES, _SCAN = 0xC4, 0xDA
_SEQUENTIAL, _PROGRESSIVE = {0xC0, 0xC1}, {0xC2}
_MORE_SCAN = b"\x92\x6d" * 8
_MORE_SCANS = _MORE_SCAN + b"".join(bytes([0xFF, 0xD0 + i]) + _MORE_SCAN for i in range(8))
"""Bytes that a decoder takes for pixels where a scan lacks some, behind each restart marker."""
_GREY, _NEAR = 128, 3


def ends_early(
    data: bytes,
    bgr: NDArray[np.uint8],
    decode: Callable[[bytes], NDArray[np.uint8] | None],
) -> bool:
    """Return whether the scans of a JPEG file lack pixels although an end marker follows.

    A progressive file must refine every coefficient; what its very last scan lacks is not found.
    Of another one the last block must be of the grey that a decoder fills in. A scan may end in
    grey itself: then its last bits show it, or it decodes to the same pixels with more bytes before
    the end marker.

    Args:
        data: The whole file; one that is no JPEG does not end early.
        bgr: Its pixels as they are stored, (H, W, 3).
        decode: What made them of the file.
    """
    end = jpeg_end(data)
    if end < 0:
        return False
    segments = list(_segments(data, end))
    try:
        if any(segment.marker in _PROGRESSIVE for segment in segments):
            return _lacks_refinements(segments)
        if not _ends_in_grey(bgr) or _repeats_at_its_end(segments, data[:end]):
            return False
    except (IndexError, ValueError):  # a header shorter than its own counts
        return True
    other = decode(data[:end] + _MORE_SCANS + data[end:])
    return other is None or not np.array_equal(bgr, other)


class _Segment(NamedTuple):
    marker: int
    body: bytes


def _segments(data: bytes, end: int) -> Iterator[_Segment]:
    """Yield the segments of a file up to its end marker, without the scans' own bytes."""
    place = len(JPEG_MAGIC)
    while found := _MARKER.search(data, place, end):
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        yield _Segment(data[found.end() - 1], data[found.end() + 2 : found.end() + length])
        place = found.end() + max(length, 2)


def _lacks_refinements(segments: list[_Segment]) -> bool:
    """Return whether some coefficients of a progressive file never reach full precision."""
    frames = [s.body for s in segments if s.marker in _PROGRESSIVE]
    wanted = {(i, k) for i in frames[0][6 : 6 + 3 * frames[0][5] : 3] for k in range(64)}
    for segment in segments:
        if segment.marker == _SCAN:
            count = segment.body[0]
            first, last, bits = segment.body[1 + 2 * count : 4 + 2 * count]
            if bits & 15 == 0:
                components = segment.body[1 : 1 + 2 * count : 2]
                wanted -= {(i, k) for i in components for k in range(first, last + 1)}
    return bool(wanted)


def _ends_in_grey(bgr: NDArray[np.uint8]) -> bool:
    """Return whether the last block is middle grey in luma, which bleeding colours keep."""
    height, width = ((side - 1) // 8 * 8 for side in bgr.shape[:2])
    luma = bgr[height:, width:] @ np.array([0.114, 0.587, 0.299])
    return bool((abs(luma - _GREY) <= _NEAR).all())


def _repeats_at_its_end(segments: list[_Segment], scans: bytes) -> bool:
    """Return whether the last bits of a sequential scan repeat the unit before them."""
    frames = [s.body for s in segments if s.marker in _SEQUENTIAL]
    if not frames:
        return False
    sampling = {frames[0][i]: frames[0][i + 1] for i in range(6, 6 + 3 * frames[0][5], 3)}
    zeros = {key: code for s in segments if s.marker == _TABLES for key, code in _zeros(s.body)}
    scan = [s.body for s in segments if s.marker == _SCAN][-1]
    pairs = zip(scan[1 : 1 + 2 * scan[0] : 2], scan[2 : 2 + 2 * scan[0] : 2], strict=True)
    unit = ""
    for component, tables in pairs:
        factors = sampling.get(component, 0x11) if scan[0] > 1 else 0x11
        block = zeros.get(tables >> 4, "") + zeros.get(16 + (tables & 15), "")
        unit += block * ((factors >> 4) * (factors & 15))
    tail = scans[-2 * len(unit) - 2 :].replace(b"\xff\x00", b"\xff")
    bits = "".join(f"{byte:08b}" for byte in tail)
    return bool(unit) and any(bits.endswith(unit + "1" * padding) for padding in range(8))


def _zeros(body: bytes) -> Iterator[tuple[int, str]]:
    """Yield each Huffman table's class and number (16 and more for AC) with its code of symbol 0.

    That is a DC difference of 0, or the end of a block. Codes are counted up length by length
    (T.81, annex C).
    """
    place = 0
    while place + 17 <= len(body):
        key, counts = body[place], body[place + 1 : place + 17]
        symbols = body[place + 17 : place + 17 + sum(counts)]
        code, index = 0, 0
        for length, count in enumerate(counts, 1):
            if 0 in symbols[index : index + count]:
                number = code + symbols.index(0) - index
                yield (key >> 4) * 16 + (key & 15), f"{number:0{length}b}"
            code, index = (code + count) << 1, index + count
        place += 17 + len(symbols)

"""Whatever a file holds, reading it gives an answer or one of the project's own errors."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from dataclasses import asdict
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedetr.runtime.detector import Detector
from edgedetr.runtime.errors import ArtifactError, DataError, EdgeDetrError
from edgedetr.runtime.health.digest import read_digest
from edgedetr.runtime.images.reading import MOST_PIXELS, image_hw, list_images, read_image
from edgedetr.runtime.manifest import Manifest, manifest_path, read_manifest
from edgedetr.runtime.spec import ModelSpec, spec_from_json, spec_from_toml

FUZZ = Path(__file__).with_name("fuzz.py")
fuzz = ModuleType("fuzz")
SourceFileLoader("fuzz", str(FUZZ)).exec_module(fuzz)
RELAXED = settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))
MANIFEST = Manifest("student.onnx", "0" * 64, "onnx", "edgedetr export onnx", SPEC)


def changed(values):
    """Replace or add some entries of a table by anything."""
    keys = st.sampled_from([*values]) | st.text(max_size=8)
    return st.dictionaries(keys, PLAIN, min_size=1, max_size=3).map(lambda new: {**values, **new})


@RELAXED
@given(values=changed(asdict(SPEC)) | PLAIN)
def test_spec_of_any_json(values):
    with suppress(EdgeDetrError):
        spec_from_json(json.dumps(values), "student.onnx")


@RELAXED
@given(text=st.text(max_size=200))
def test_spec_of_any_text(text, tmp_path):
    with suppress(EdgeDetrError):
        spec_from_json(text, "student.onnx")
    path = tmp_path / "spec.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with suppress(EdgeDetrError):
        spec_from_toml(path)


@RELAXED
@given(data=st.binary(max_size=200) | (changed(asdict(MANIFEST)) | PLAIN).map(json.dumps))
def test_manifest_and_digest_of_anything(data, tmp_path):
    data = data.encode() if isinstance(data, str) else data
    artifact = tmp_path / "student.onnx"
    artifact.write_bytes(b"model")
    manifest_path(artifact).write_bytes(data)
    with suppress(EdgeDetrError):
        read_manifest(artifact)
    with suppress(EdgeDetrError):
        read_digest(manifest_path(artifact))


@RELAXED
@given(data=st.binary(max_size=64), start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8"]))
def test_image_of_any_bytes(data, start, tmp_path):
    path = tmp_path / "000000.png"
    path.write_bytes(start + data)
    for read in (read_image, image_hw):
        with suppress(EdgeDetrError):
            read(path)


@RELAXED
@given(
    place=st.integers(0, 10_000),
    value=st.integers(0, 255),
    suffix=st.sampled_from([".png", ".jpg"]),
)
def test_image_with_one_changed_byte(place, value, suffix, tmp_path):
    """OpenCV writes its warnings about such files to standard error, and that is all."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    data = bytearray(cv2.imencode(suffix, pixels)[1].tobytes())
    data[place % len(data)] = value
    path = tmp_path / f"000000{suffix}"
    path.write_bytes(data)
    with suppress(EdgeDetrError):
        assert read_image(path).ndim == 3


@RELAXED
@given(name=st.text(st.characters(codec="utf-8"), max_size=30))
def test_path_of_any_name(name, tmp_path):
    with suppress(EdgeDetrError):
        list_images(tmp_path / name)
    with suppress(EdgeDetrError):
        read_image(Path(tmp_path, name))


@pytest.mark.slow
@RELAXED
@given(place=st.integers(0, 1_000_000), value=st.integers(0, 255), cut=st.booleans())
def test_onnx_with_one_changed_byte(place, value, cut, tiny_onnx, tmp_path):
    data = bytearray(tiny_onnx().read_bytes())
    place %= len(data)
    data[place] = value
    path = tmp_path / "changed.onnx"
    path.write_bytes(data[:place] if cut else data)
    with suppress(EdgeDetrError), Detector.open(path, "onnxruntime") as detector:
        assert detector.spec.class_names


def test_images_that_claim_too_many_pixels_are_not_decoded(tmp_path):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    side = 1 << 15
    assert side * side > MOST_PIXELS
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    place = jpeg.index(b"\xff\xc0")
    jpeg[place + 5 : place + 9] = struct.pack(">HH", side, side)
    for name, data in (("a.png", png), ("a.jpg", jpeg)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="claims 32768x32768 pixels"):
            read_image(tmp_path / name)


def test_huge_texts_are_not_read(tmp_path):
    path = tmp_path / "student.health.json"
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(ArtifactError, match="larger than 16 MiB"):
        read_digest(path)


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_a_good_input_is_read_to_its_end(target, tmp_path, monkeypatch):
    """Or else what is made from it would end early, too."""
    told: list[object] = []
    monkeypatch.setattr(EdgeDetrError, "__init__", lambda *told_of: told.append(told_of))
    fuzz.TARGETS[target](fuzz.seeds(target)[0], tmp_path)
    kinds = {"manifest": 0, "spec": 1, "digest": 0, "image": 0, "archive": 0, "package": 1}
    assert len(told) == kinds[target]  # JSON is no TOML; the golden values are made up


@pytest.mark.parametrize("target", fuzz.TARGETS)
@RELAXED
@given(data=st.data())
def test_what_atheris_fuzzes_takes_any_bytes(target, data, tmp_path):
    good = data.draw(st.sampled_from(fuzz.seeds(target)))
    start = data.draw(st.integers(0, len(good)))
    middle = data.draw(st.binary(max_size=8))
    end = data.draw(st.integers(start, len(good)))
    fuzz.TARGETS[target](good[:start] + middle + good[end:], tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(
    not find_spec("atheris"), reason="atheris is not installed: pip install atheris"
)
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_some_seconds_of_atheris(target, tmp_path):
    command = [sys.executable, FUZZ, target, "-max_total_time=3", "-verbosity=0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

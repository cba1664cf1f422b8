"""Kernel timings that are kept between builds, with fakes of TensorRT."""

import pytest

from edgedetr.export.engine.options import EngineOptions
from edgedetr.export.to_engine import export_engine
from edgedetr.runtime.errors import ArtifactError


def test_times_are_kept_for_the_next_build(tensorrt, model, tmp_path):
    cache = tmp_path / "times.cache"
    title = b"edgedetr timing cache for tensorrt==10.3.0 on Orin (sm_87)\n"
    cache.write_bytes(title + b"earlier")
    tensorrt()
    report = export_engine(model(), tmp_path / "a.engine", EngineOptions(timing_cache=cache))
    assert cache.read_bytes() == title + b"earlier timed"
    assert report.notes == ()
    cache.unlink()
    export_engine(model(), tmp_path / "b.engine", EngineOptions(timing_cache=cache))
    assert cache.read_bytes() == title + b"timed"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"tensorrt==10.7.0 on Orin (sm_87)\nold", "was timed with tensorrt==10.7.0 on Orin"),
        (b"tensorrt==10.3.0 on Thor (sm_110)\nold", "this is tensorrt==10.3.0 on Orin (sm_87)"),
        (b"tensorrt==10.3.0 on Orin (sm_87)\ndamaged", "is refused by tensorrt==10.3.0"),
    ],
)
def test_times_of_others_are_neither_used_nor_lost(tensorrt, model, tmp_path, content, note):
    cache = tmp_path / "times.cache"
    content = b"edgedetr timing cache for " + content
    cache.write_bytes(content)
    seen = tensorrt()
    report = export_engine(model(), tmp_path / "net.engine", EngineOptions(timing_cache=cache))
    assert len(report.notes) == 1
    assert note in report.notes[0]
    assert cache.read_bytes() == content
    assert seen.cache._entries == {"timed"}


def test_any_other_file_is_no_timing_cache(tensorrt, model, tmp_path):
    tensorrt()
    path = model()
    with pytest.raises(ArtifactError, match=r"net\.onnx is no timing cache that edgedetr wrote"):
        export_engine(path, tmp_path / "net.engine", EngineOptions(timing_cache=path))

"""Engines for another library, version or GPU are refused before they are loaded."""

import pytest

from edgedetr.runtime.backends import tensorrt
from edgedetr.runtime.errors import ArtifactError

WHITE, BLACK = 4.0, -4.0  # the first logit


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (
            {"builder": "tensorrt==10.7.0"},
            "tiny.engine was built with TensorRT 10.7.0 for sm_87; this machine has TensorRT "
            "10.3.0 on sm_87. Rebuild it here: edgedetr export engine student.onnx --backend "
            "tensorrt",
        ),
        ({"targets": ("sm_86",)}, "for sm_86; this machine has TensorRT 10.3.0 on sm_87"),
        ({"targets": ("sm_90+",)}, "for sm_90+; this machine has"),
        ({"targets": ("sm_80+",)}, "for sm_80+; this machine has TensorRT 10.3.0 on sm_87"),
        ({"targets": ("sm_+", "sm_x+")}, "for sm_+, sm_x+; this machine has"),
        ({"builder": "tensorrt>=11.³"}, "was built with TensorRT 11.³ for"),
        ({"targets": ()}, "for no GPU that its manifest names; this machine has"),
        ({"builder": "tensorrt>=10.4.0"}, "was built with TensorRT 10.4.0"),
        (
            {"builder": "tensorrt_rtx==1.7.1"},
            "was built with TensorRT-RTX 1.7.1 for sm_87; this machine has TensorRT 10.3.0",
        ),
        ({"builder": "torch==2.15"}, "names no builder"),
    ],
)
def test_an_engine_for_something_else_is_refused_before_it_is_loaded(opened, gpu, engine, message):
    with pytest.raises(ArtifactError) as error:
        opened(data=b"not even an engine", **engine)
    assert message in str(error.value)
    gpu.check_clean()


@pytest.mark.parametrize("targets", [("sm_80+",), ("sm_86", "sm_89")])
def test_an_engine_for_several_devices_runs(opened, gpu, targets, answer):
    gpu.capability = (8, 9)
    assert answer(opened(targets=targets), 1) == WHITE


def test_a_version_compatible_engine_runs_its_host_code_on_later_versions(opened, answer):
    session = opened(version="10.13.3", builder="tensorrt>=10.3.0", host_code=True)
    assert answer(session, 1) == WHITE


def test_host_code_is_not_run_unless_the_manifest_says_so(opened):
    with pytest.raises(ArtifactError, match="engineHostCodeAllowed is not set"):
        opened(host_code=True)


def test_an_engine_without_its_manifest_is_refused(tmp_path):
    (tmp_path / "x.engine").write_bytes(b"ENGINE{}")
    with pytest.raises(ArtifactError, match=r"x.engine.manifest.json is missing"):
        tensorrt.open_session(tmp_path / "x.engine")

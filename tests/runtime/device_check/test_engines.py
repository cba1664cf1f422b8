"""Which engines are there, which are built, and which of an earlier check are used again."""

import shutil

import pytest

from edgedetr.runtime.device_check.engines import Model, engine_of, models_of
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.manifest import manifest_path


@pytest.fixture
def builder(tiny_engine):
    """Builds by writing the tiny engine; returns that and what it was called with."""
    calls = []

    def build(model, engine, timing_cache):
        calls.append((model, engine, timing_cache))
        made = tiny_engine()
        shutil.move(manifest_path(made), manifest_path(engine))
        shutil.move(made, engine)

    return build, calls


def test_an_engine_is_built_once(inspected, tiny_onnx, builder, tmp_path):
    del inspected
    (build, calls), onnx, state = builder, tiny_onnx(), tmp_path / "state"
    model = Model("tiny.onnx", onnx)
    first = engine_of(model, state, build)
    assert first.source == onnx
    assert first.build_s is not None
    assert first.build_s >= 0
    again = engine_of(model, state, build)
    assert (again.path, again.build_s) == (first.path, None)
    assert calls == [(onnx, first.path, state / "timing.cache")]


def test_an_engine_of_another_library_version_is_built_again(
    inspected, install_trt, tiny_onnx, builder, tmp_path
):
    del inspected
    build, calls = builder
    model = Model("tiny.onnx", tiny_onnx())
    engine_of(model, tmp_path / "state", build)
    install_trt(version="10.13.0")
    engine_of(model, tmp_path / "state", build)
    assert len(calls) == 2


def test_another_model_of_the_same_name_has_another_engine(inspected, tiny_onnx, builder, tmp_path):
    del inspected
    build, calls = builder
    for bias in (-4.0, -3.0):
        model = Model("tiny.onnx", tiny_onnx(bias=((bias, -9.0), (-9.0, -9.0))))
        engine_of(model, tmp_path / "state", build)
    assert len({engine for _, engine, _ in calls}) == 2


def test_without_a_builder(tiny_onnx, tmp_path):
    with pytest.raises(ArtifactError, match=r"tiny.onnx: no engine was built: this installation"):
        engine_of(Model("tiny.onnx", tiny_onnx()), tmp_path, None)


def test_an_engine_is_compared_with_the_onnx_file_that_its_manifest_names(engine_beside_onnx):
    engine, onnx = engine_beside_onnx()
    with models_of(engine) as models:
        assert models == [Model("tiny.engine", engine, onnx)]
        assert engine_of(models[0], engine.parent, None).build_s is None
    onnx.write_bytes(b"another")
    with models_of(engine) as models:
        assert models == [Model("tiny.engine", engine, None)]


def test_a_file_that_is_missing_or_has_a_key(tmp_path, tiny_onnx):
    with (
        pytest.raises(ArtifactError, match=r"no.onnx is missing; name an ONNX file"),
        models_of(tmp_path / "no.onnx"),
    ):
        pass
    with (
        pytest.raises(UsageError, match="is not a package; leave out the public key"),
        models_of(tiny_onnx(), tmp_path / "key.pub"),
    ):
        pass


def test_the_models_of_a_package(package_files, write_folder, keys, tmp_path):
    engine = {
        "name": "models/m.engine",
        "kind": "engine",
        "precision": "fp16",
        "source": "models/m.onnx",
    }
    onnx = {"name": "models/m.onnx", "kind": "onnx", "precision": "fp16"}
    files = package_files(changes={"models/m.engine": b"engine"}, models=[onnx, engine])
    folder = write_folder(files, tmp_path / "package")
    with models_of(folder, keys[1]) as models:
        assert [(m.name, m.precision) for m in models] == [
            ("models/m.onnx", "fp16"),
            ("models/m.engine", "fp16"),
        ]
        assert models[1].source == folder / "models/m.onnx"
        assert models[0].source is None
    with pytest.raises(UsageError, match="name the public key"), models_of(folder):
        pass

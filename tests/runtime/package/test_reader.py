import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedetr.runtime.errors import ArtifactError, EdgeDetrError, UsageError
from edgedetr.runtime.package import reader as module
from edgedetr.runtime.package.archive import TAR_END
from edgedetr.runtime.package.reader import read_package
from edgedetr.runtime.self_test import check_inputs

FILES = ["MANIFEST.json", "MANIFEST.sig", "checks/verify.json", "golden.json", "golden.ppm"]
FILES += ["licenses/LICENSE", "models/m.bin", "models/m.onnx", "models/m.onnx.manifest.json"]
FILES += ["spec.json"]


def test_a_good_package(write, package_files, public):
    with read_package(write(package_files()), public) as opened:
        assert opened.is_trusted
        assert opened.spec.class_names == ("Car", "Pedestrian")
        assert opened.manifest.models[0].precision == "fp32"
        assert opened.frame().tolist()[0][:2] == [[0, 1, 2], [3, 4, 5]]
        assert opened.read("licenses/LICENSE") == b"Apache-2.0"
        assert opened.golden_answer("models/m.onnx").scores == (0.5,)
        assert check_inputs(opened.golden, opened.spec)


def test_a_model_lies_beside_its_companions(write, package_files, public):
    files = package_files()
    with read_package(write(files), public) as opened:
        path = opened.model_path()
        assert opened.model_path("models/m.onnx") == path
        for name in ("m.onnx", "m.bin", "m.onnx.manifest.json"):
            assert (path.parent / name).read_bytes() == files[f"models/{name}"]
        if opened.path.suffix == ".tar":
            assert path.parent.parent.stat().st_mode & 0o777 == 0o700
        with pytest.raises(ArtifactError, match=r"no model models/n\.onnx; it has models/m\.onnx"):
            opened.model_path("models/n.onnx")
    assert path.exists() == opened.path.is_dir()
    opened.close()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0, -1])
def test_a_flipped_bit_in_any_file(name, position, write, package_files, public):
    files = package_files()
    changed = bytearray(files[name])
    changed[position] ^= 1
    path = write(files | {name: bytes(changed)})
    said = "no signature of its MANIFEST" if name.startswith("MANIFEST") else f"{name} was changed"
    with pytest.raises(ArtifactError, match=f"{path.name}: .*{said}"):
        read_package(path, public)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone(name, write, package_files, public):
    files = package_files()
    del files[name]
    said = "is not signed" if name == "MANIFEST.sig" else f"{name} is missing"
    with pytest.raises(ArtifactError, match=said):
        read_package(write(files), public)


def test_a_file_that_was_added(write, package_files, public):
    files = package_files()
    with pytest.raises(ArtifactError, match=r"models/x\.so is not in its manifest"):
        read_package(write(files | {"models/x.so": b""}), public)


def test_a_file_that_was_renamed(write, package_files, public):
    files = package_files()
    files["models/n.bin"] = files.pop("models/m.bin")
    with pytest.raises(ArtifactError, match=r"models/m\.bin is missing"):
        read_package(write(files), public)


def test_a_file_that_is_longer_or_shorter(write, package_files, public):
    files = package_files()
    with pytest.raises(ArtifactError, match=r"m\.bin was changed: it has 8001 bytes.* says 8000"):
        read_package(write(files | {"models/m.bin": files["models/m.bin"] + b"x"}), public)


def test_who_signed(write, package_files, public, other_keys):
    path = write(package_files(key=other_keys[0]))
    with pytest.raises(ArtifactError, match="or another key signed it"):
        read_package(path, public)
    assert read_package(path, other_keys[1]).is_trusted
    with pytest.raises(UsageError, match="name the public key"):
        read_package(path)
    assert not read_package(path, require_signature=False).is_trusted
    with pytest.raises(ArtifactError, match="or another key signed it"):
        read_package(path, public, require_signature=False)


def test_a_package_without_signature(write, package_files, public):
    path = write(package_files(key=None))
    with pytest.raises(ArtifactError, match="is not signed"):
        read_package(path, public)
    assert not read_package(path, public, require_signature=False).is_trusted
    assert not read_package(path, require_signature=False).is_trusted


def test_a_signature_that_was_taken_away(write, package_files):
    files = package_files()
    del files["MANIFEST.sig"]
    with pytest.raises(ArtifactError, match=r"MANIFEST\.sig is missing"):
        read_package(write(files), require_signature=False)


@pytest.mark.parametrize("size", [0, 63, 65, 5000])
def test_a_signature_of_another_length(size, write, package_files, public):
    files = package_files() | {"MANIFEST.sig": bytes(size)}
    with pytest.raises(ArtifactError, match=r"MANIFEST\.sig is"):
        read_package(write(files), public)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": "edgedetr-package-2"}'),
        *(b"[" * 200_000, b'{"format": NaN}', b'{"x": ' + b"9" * 4000 + b"}"),
        b'{"format": "edgedetr-package-1"}',
    ],
    ids=lambda data: data[:30].decode("latin-1"),
)
def test_a_manifest_that_is_none(data, write, package_files, keys):
    files = package_files() | {"MANIFEST.json": data, "MANIFEST.sig": keys[0].sign(data)}
    with pytest.raises(ArtifactError, match=r"MANIFEST\.json"):
        read_package(write(files), keys[1])


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("spec.json", b"{}", r"spec\.json: the key 'input_hw' is missing"),
        ("spec.json", b'{"input_hw": [8, 0], "class_names": ["a"]}', "input_hw"),
        ("spec.json", b'{"input_hw": [9999, 9999], "class_names": ["a"]}', "is too large"),
        ("spec.json", b'{"input_hw": [8, 8], "class_names": ["a"], "std": [1, 1, NaN]}', "NaN"),
        (
            "spec.json",
            b'{"input_hw": [8, 8], "class_names": ["a"], "std": [1, 1, 1' + b"0" * 400 + b"]}",
            r"spec\.json: std: wanted float, found a number of 13\d\d bits",
        ),
        ("spec.json", b" " * (2 << 20), r"spec\.json is larger than 1048576 bytes"),
        ("golden.json", b"{}", "golden.json: the key 'inputs' is missing"),
    ],
)
def test_a_signed_file_that_makes_no_sense(name, data, said, write, package_files, public):
    with pytest.raises(ArtifactError, match=said):
        read_package(write(package_files(changes={name: data})), public)


def test_a_model_without_an_answer(write, package_files, public):
    name = "models/m.bin"
    models = [{"name": name, "kind": "engine", "precision": "fp32", "source": name}]
    with read_package(write(package_files(models=models)), public) as opened:
        with pytest.raises(ArtifactError, match=r"no golden answer of models/m\.bin"):
            opened.golden_answer("models/m.bin")
        with pytest.raises(ArtifactError, match=r"no model models/m\.onnx"):
            opened.golden_answer("models/m.onnx")


def test_a_frame_of_another_size(write, package_files, public):
    for data in (b"P6\n6 4\n255\n", b"P6\n4 6\n255\n" + bytes(72), bytes(200)):
        opened = read_package(write(package_files(changes={"golden.ppm": data})), public)
        with pytest.raises(ArtifactError, match=r"golden\.ppm is not of 6 x 4 pixels"):
            opened.frame()


def test_a_package_that_changes_after_it_was_opened(write, package_files, public):
    files = package_files()
    with read_package(write(files), public) as opened:
        write(files | {"models/m.bin": b"wEights " * 1000})
        with pytest.raises(ArtifactError, match=r"models/m\.bin was changed"):
            opened.read("models/m.bin")
        if not opened.path.is_dir():
            with pytest.raises(ArtifactError, match=r"models/m\.bin was changed"):
                opened.model_path()


def test_memory_does_not_grow_with_the_files(package_files, write, public):
    import tracemalloc

    path = write(package_files(changes={"models/m.bin": bytes(30 << 20)}))
    tracemalloc.start()
    read_package(path, public)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_there_is_no_package(tmp_path, public):
    with pytest.raises(ArtifactError, match="wanted a package"):
        read_package(tmp_path / "none.tar", public)
    with pytest.raises(ArtifactError, match=r"MANIFEST\.json is missing"):
        read_package(tmp_path, public)
    (tmp_path / "e.tar").write_bytes(TAR_END)
    with pytest.raises(ArtifactError, match=r"MANIFEST\.json is missing"):
        read_package(tmp_path / "e.tar", public)


def damages(size):
    """Strategies for what can happen to the bytes of a file."""
    place = st.integers(0, size - 1)
    some = st.binary(min_size=1, max_size=600)
    return st.one_of(
        st.tuples(st.just("overwrite"), place, some),
        st.tuples(st.just("insert"), place, some),
        st.tuples(st.just("cut out"), place, st.integers(1, 2000)),
        st.tuples(st.just("cut off"), place, st.just(b"")),
        st.tuples(st.just("move"), place, place),
    )


def damaged(data, damage):
    how, place, what = damage
    if how == "overwrite":
        return data[:place] + what + data[place + len(what) :]
    if how == "insert":
        return data[:place] + what + data[place:]
    if how == "cut out":
        return data[:place] + data[place + what :]
    if how == "move":
        block = data[place : place + 512]
        return data[:what] + block + data[what + len(block) :]
    return data[:place]


@pytest.mark.slow
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_damage_passes_or_surprises(data, packed_tar, public, tmp_path):
    damage = data.draw(st.lists(damages(len(packed_tar)), min_size=1, max_size=3))
    changed = packed_tar
    for one in damage:
        changed = damaged(changed, one)
    path = tmp_path / "p.tar"
    path.write_bytes(changed)
    if changed == packed_tar:
        assert read_package(path, public).is_trusted
        return
    with pytest.raises(ArtifactError):
        read_package(path, public)


@pytest.fixture
def with_value(package_files, tar_bytes, keys, tmp_path):
    """Writes a signed tar in whose JSON file ``name`` one value is another."""

    def write(name, key, value):
        files = package_files()
        changed = json.dumps(json.loads(files[name]) | {key: value}).encode()
        if name == "MANIFEST.json":
            files |= {name: changed, "MANIFEST.sig": keys[0].sign(changed)}
        else:
            files = package_files(changes={name: changed})
        path = tmp_path / "p.tar"
        path.write_bytes(tar_bytes(sorted(files.items())))
        return path

    return write


KEYS = [("MANIFEST.json", k) for k in ("models", "files", "gates", "signed_by", "format")]
KEYS += [("spec.json", k) for k in ("input_hw", "class_names", "mean", "std", "pad_value")]
KEYS += [("golden.json", k) for k in ("inputs", "frame_hw", "answers")]


@pytest.mark.slow
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    where=st.sampled_from(KEYS),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
        max_leaves=9,
    ),
)
def test_signed_nonsense_raises_our_errors_only(where, value, with_value, public):
    try:
        with read_package(with_value(*where, value), public) as opened:
            opened.model_path()
            opened.frame()
            check_inputs(opened.golden, opened.spec)
    except EdgeDetrError:
        pass


def test_the_limit_of_a_manifest(write, package_files, public, monkeypatch):
    path = write(package_files())
    monkeypatch.setattr(module, "MAX_JSON_BYTES", 100)
    with pytest.raises(ArtifactError, match=r"MANIFEST\.json is larger than 100 bytes"):
        read_package(path, public)

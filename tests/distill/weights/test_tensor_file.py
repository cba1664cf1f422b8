import itertools
import resource
from contextlib import contextmanager

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgedetr.distill.weights.tensor_file import tensor_path

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(2, dtype=torch.int64)}
TEXTS = {"edgedetr.spec": '{"name": "Straße\\n"}', "edgedetr.model": "{}", "epoch": "3", "x": ""}


@contextmanager
def largest_file(size):
    """Let no file of this process grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_equal_tensors_and_texts_are_equal_bytes_in_whatever_order_they_come(tmp_path):
    path, seen = tmp_path / "x.safetensors", set()
    for order in itertools.permutations(TEXTS):
        with tensor_path(path) as temporary:
            save_file(TENSORS, temporary, {key: TEXTS[key] for key in order})
        seen.add(path.read_bytes())
    assert len(seen) == 1
    with safe_open(path, "pt") as file:
        assert file.metadata() == TEXTS
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[key], value) for key, value in TENSORS.items())


def test_a_full_disk_names_the_file_and_leaves_the_one_before(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"before")
    with (
        largest_file(2000),
        pytest.raises(OSError, match="File too large") as caught,
        tensor_path(path) as temporary,
    ):
        save_file({"a": torch.zeros(10_000)}, temporary)
    assert caught.value.filename == str(path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    assert path.read_bytes() == b"before"

from pathlib import Path

import pytest

from edgedetr.calib.stats import TensorRange
from edgedetr.export.transforms.stored_ranges import (
    RANGES_KEY,
    StoredRanges,
    store_ranges,
    stored_ranges,
)
from edgedetr.graph.checksum import model_sha256
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec

SPEC = ModelSpec((8, 8), ("Car",))
RANGES = StoredRanges("", "head", "mse", 99.9, 64, "ab", (TensorRange("x", 1.0, 2.0),))


@pytest.fixture
def model(onnx_model):
    """A graph with a spec in its metadata."""
    return onnx_model(
        [("Relu", "r", ["images"], "x", {})],
        {},
        inputs={"images": (1, 3, 8, 8)},
        outputs=["x"],
        spec=SPEC,
    )


def test_ranges_are_read_as_they_were_stored_and_other_metadata_stays(model):
    store_ranges(model, RANGES)
    store_ranges(model, RANGES)  # again, they replace the first
    assert sorted(p.key for p in model.metadata_props) == sorted([METADATA_KEY, RANGES_KEY])
    assert stored_ranges(model, Path("m.onnx")) == RANGES


def test_they_become_the_stats_of_the_model_that_holds_them(model, tmp_path):
    path = tmp_path / "m.onnx"
    store_ranges(model, RANGES)
    path.write_bytes(model.SerializeToString())
    stats = RANGES.stats(model, path)
    assert (stats.model, stats.model_sha256) == ("m.onnx", model_sha256(path))
    assert (stats.spec, stats.method, stats.ranges) == (SPEC, "mse", RANGES.ranges)


def test_a_model_without_ranges_or_with_damaged_ones_is_refused(model):
    path = Path("m.onnx")
    with pytest.raises(ArtifactError, match=r"m\.onnx was not trained for INT8 .* calib collect"):
        stored_ranges(model, path)
    store_ranges(model, RANGES)
    entry = next(p for p in model.metadata_props if p.key == RANGES_KEY)
    whole = entry.value
    for text in (whole[:-1], "[]", whole.replace('"mse"', '"most"'), whole.replace("1.0", "3.0")):
        entry.value = text
        with pytest.raises(ArtifactError, match=r"m\.onnx: its ranges are damaged"):
            stored_ranges(model, path)

"""A spec that is drafted of a model: what is known of it, and what is marked as a guess."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from edgedetr.export.spec_draft import draft_spec
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[..., Path]

LOGITS = np.random.default_rng(0).normal(-4, 2, (1, 8, 2))
BOXES = np.random.default_rng(1).uniform(0.1, 0.4, (1, 8, 4))


@pytest.fixture
def write(onnx_model: Callable[..., onnx.ModelProto], tmp_path: Path) -> Write:
    """Writes a convolution of the image, and logits and boxes that never change."""

    def make(
        images: tuple[object, ...] = (1, 3, 8, 16), metadata: dict[str, str] | None = None
    ) -> Path:
        kernel = (1,) * (len(images) - 2)
        model = onnx_model(
            [("Conv", "conv", ["images", "w"], "x", {})],
            {"w": np.ones((2, images[1], *kernel)), "logits": LOGITS, "boxes": BOXES},
            inputs={"images": images},
            outputs=["x", "logits", "boxes"],
        )
        onnx.helper.set_model_props(model, metadata or {})
        onnx.save(model, tmp_path / "m.onnx")
        return tmp_path / "m.onnx"

    return make


def test_a_draft_marks_each_guess_above_its_key(write: Write) -> None:
    draft = draft_spec(write())
    assert draft.unsure.keys() == {
        *("activation", "box_format", "class_names", "resize", "mean", "std"),
    }
    lines = draft.toml().splitlines()
    assert lines[0] == "input_hw = [8, 16]"
    assert 'class_names = ["class_0", "class_1"]' in lines
    for key in draft.unsure:
        place = next(i for i, line in enumerate(lines) if line.startswith(f"{key} = "))
        assert lines[place - 1] == f"# unsure: {draft.unsure[key]}"
    assert draft.spec().activation == "sigmoid_logits"


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ("{0: 'bus', 1: 'tram'}", ("bus", "tram")),
        ("['bus', 'tram']", ("bus", "tram")),
        ("['bus']", ("class_0", "class_1")),
        ("['bus', 'bus']", ("class_0", "class_1")),
        ("[1, 2]", ("class_0", "class_1")),
        ("{0: 'bus'", ("class_0", "class_1")),
    ],
)
def test_stored_names_are_taken_where_they_are_the_models(
    write: Write, stored: str, found: tuple[str, ...]
) -> None:
    draft = draft_spec(write(metadata={"names": stored}))
    assert draft.spec().class_names == found
    assert ("class_names" in draft.unsure) == (found[0] == "class_0")


def test_a_model_with_a_spec_needs_none(write: Write) -> None:
    spec = ModelSpec((8, 16), ("bus", "tram"))
    with pytest.raises(ArtifactError, match="carries its own spec; it needs none"):
        draft_spec(write(metadata={METADATA_KEY: spec.to_json()}))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((1, 4, 8, 16), r"takes images \[1, 4, 8, 16\]; export it with the channels first"),
        ((1, 3, "H", "W"), r"takes images \[1, 3, 'H', 'W'\]; export it with the channels first"),
        ((1, 3, 8), r"takes images float32 \[1, 3, 8\]; wanted an image, float32 \[1, 3, H, W\]"),
    ],
)
def test_what_takes_no_image_of_a_known_size_is_refused(
    write: Write, images: tuple[object, ...], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        draft_spec(write(images))

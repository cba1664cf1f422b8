import json

import numpy as np
import pytest
import transformers

from edgedetr.distill.weights.source_preprocessor import read_spec
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.preprocess import Preprocessor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def preprocessor(tmp_path):
    """Writes a preprocessor_config.json; returns the spec that is read of it."""

    def write(input_hw=None, **values):
        known = {"image_processor_type": "DetrImageProcessor"}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(known | values))
        return read_spec(tmp_path, ("car",), input_hw)

    return write


def test_a_fixed_size_stretches(preprocessor):
    spec = preprocessor(
        image_processor_type="RTDetrImageProcessorFast", size={"height": 640, "width": 512}
    )
    assert (spec.resize, spec.input_hw, spec.class_names) == ("stretch", (640, 512), ("car",))
    assert (spec.mean, spec.std) == ((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    "size",
    [
        {"size": {"shortest_edge": 800, "longest_edge": 1333}},
        {"size": {"max_height": 800, "max_width": 1333}},
        {"size": 800, "max_size": 1333},
        {"size": 800},
        {},
    ],
)
def test_edges_become_a_letterbox(preprocessor, size):
    spec = preprocessor(**size)
    assert (spec.resize, spec.input_hw, spec.pad_value) == ("letterbox", (800, 1333), 114)
    assert (spec.mean, spec.std) == (MEAN, STD)


def test_a_size_that_is_given_counts(preprocessor):
    assert preprocessor((402, 1333)).input_hw == (402, 1333)


def test_pixels_are_scaled_as_the_processor_does(preprocessor):
    bright = preprocessor(do_rescale=False, image_mean=[127.5] * 3, image_std=[51.0] * 3)
    assert bright.mean == pytest.approx((0.5, 0.5, 0.5))
    assert bright.std == pytest.approx((0.2, 0.2, 0.2))
    halved = preprocessor(rescale_factor=1 / 127.5, do_normalize=False)
    assert halved.mean == (0, 0, 0)
    assert halved.std == pytest.approx((0.5, 0.5, 0.5))


def test_an_image_of_the_input_size_is_fed_as_in_transformers(tmp_path):
    theirs = transformers.DetrImageProcessor(size={"height": 32, "width": 48})
    theirs.save_pretrained(tmp_path)
    spec = read_spec(tmp_path, ("car",), None)
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    ours = np.empty((3, 32, 48), np.float32)
    Preprocessor(spec)(image, ours)
    wanted = theirs(images=image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(ours, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "CLIPImageProcessor is not one for"),
        ({"do_center_crop": True}, "DetrImageProcessor is not one for"),
        ({"resample": 3}, "resample is 3, wanted 2"),
        ({"do_resize": False}, "do_resize is false"),
        ({"size": {"height": 640}}, r"size is .*640.*, wanted height and width"),
        ({"image_mean": [0.5]}, "have 1 and 3 numbers, wanted 3"),
        ({"image_std": [0, 0, 0]}, "std of a model spec"),
    ],
)
def test_a_wrong_preprocessor_is_refused_in_one_line(preprocessor, values, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        preprocessor(**values)
    assert "\n" not in str(caught.value)


def test_a_missing_preprocessor_is_asked_for(tmp_path):
    with pytest.raises(ArtifactError, match=r"preprocessor_config\.json is missing.*bring it"):
        read_spec(tmp_path, ("car",), None)

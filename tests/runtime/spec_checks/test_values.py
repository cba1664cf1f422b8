from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedetr.runtime.decode import softmax
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec
from edgedetr.runtime.spec_checks.values import check_values

SPEC = ModelSpec(input_hw=(96, 320), class_names=("Car", "Pedestrian", "Cyclist"))
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (1, 40, 3)).astype(np.float32)
BOXES = RNG.uniform(0.2, 0.4, (1, 40, 4)).astype(np.float32)


def test_a_log_softmax_is_no_logits_of_a_sigmoid():
    shares = np.log(softmax(LOGITS))
    with pytest.raises(ArtifactError, match="as a log-softmax gives them"):
        check_values([shares, BOXES], SPEC, Path("m.onnx"))
    check_values([shares, BOXES], replace(SPEC, activation="softmax_logits"), Path("m.onnx"))


def test_logits_are_what_they_are():
    check_values([LOGITS, BOXES], SPEC, Path("m.onnx"))

"""What an imported model's export finds, against transformers' own model and image processor."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from edgedetr.distill.weights.importing import import_model
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.verify.limits import FP32_LIMITS
from edgedetr.export.verify.matching import Rule, match
from edgedetr.export.verify.runners.onnx import OnnxRunner
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor, placement

pytestmark = pytest.mark.slow

KINDS = json.loads((Path(__file__).parents[1] / "foreign_detectors.json").read_text())
FAMILIES = [kind for kind in KINDS if "-" not in kind]
ROWS = [1, 2, 4]
BEST = Rule(threshold=0.0, top=20)


@pytest.fixture
def exported(foreign, tmp_path):
    """Writes a random detector as transformers does, and its import as ONNX; returns both."""

    def write(family):
        folder = foreign(family)
        import_model(folder, tmp_path / "model.safetensors")
        export_onnx(tmp_path / "model.safetensors", tmp_path / "model.onnx")
        return folder, tmp_path / "model.onnx"

    return write


def transformers_finds(folder, image, spec):
    """The best detections of transformers, its processor before and its scores behind."""
    network = transformers.AutoModelForObjectDetection.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = network(pixel_values=processor(images=image, return_tensors="pt").pixel_values)
    logits = outputs.logits
    if logits.shape[-1] == 6:  # a softmax, with a column for no object
        logits = torch.logit(logits.softmax(-1))
    found = (logits[0, :, ROWS].numpy(), outputs.pred_boxes[0].numpy())
    return postprocess(*found, placement(image.shape[:2], spec), spec, 0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_finds_what_transformers_finds_in_real_frames(family, exported, shared_data):
    folder, graph = exported(family)
    runner = OnnxRunner(graph)
    fed, preprocess = np.empty((1, 3, *runner.spec.input_hw), np.float32), Preprocessor(runner.spec)
    for path in list_images(shared_data / "kitti" / "training" / "image_2")[::60]:
        image = read_image(path)
        if not runner.spec.antialias:  # RF-DETR, whose resize differs in the last bit
            image = np.ascontiguousarray(image[:64, :96])
        place = preprocess(image, fed[0])
        logits, boxes = runner(fed)
        ours = postprocess(logits[0], boxes[0], place, runner.spec, 0.0)
        theirs = transformers_finds(folder, image, runner.spec)
        pairs = match(theirs, ours, BEST, runner.spec.max_detections)
        assert len(pairs) >= min(15, len(ours.scores))
        assert pairs.lost(FP32_LIMITS) == 0


def test_the_manifest_says_that_the_queries_do_not_fade(exported):
    _, graph = exported("rt_detr")
    assert read_manifest(graph).summary.endswith("; query fade off")

import json
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import detection, get_model_weights
from torchvision.ops import box_convert

from edgedetr.distill.config import StudentConfig
from edgedetr.distill.model import IMPORTED
from edgedetr.distill.networks.static_nms import SILENT
from edgedetr.distill.networks.torchvision_model import FAMILIES
from edgedetr.distill.teacher_config import TeacherConfig
from edgedetr.distill.training.models import open_student, open_teacher
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.importing import import_model, read_model
from edgedetr.distill.weights.source_place import source_place
from edgedetr.runtime.errors import ArtifactError

HW = (32, 96)
IMAGE = torch.rand(3, *HW, generator=torch.Generator().manual_seed(1))
SIZE = {"min_size": HW[0], "max_size": HW[1]}
HEADS = ("rpn.head.cls_logits", "cls_score", "bbox_pred", "classification_head.cls_logits")
NAMED = {"__background__", "N/A"}


@torch.no_grad()
def spread(model):
    """Let scores differ, and boxes lie near their anchors: outputs of a random head vary by 1."""
    outputs = defaultdict(list)
    heads = [module for key, module in model.named_modules() if key.endswith(HEADS)]
    handles = [
        head.register_forward_hook(lambda module, _, found: outputs[module].append(found.flatten()))
        for head in heads
    ]
    model.eval()([IMAGE])
    for head, handle in zip(heads, handles, strict=True):
        head.weight.div_(torch.cat(outputs[head]).std())
        handle.remove()


def published(name, monkeypatch, classes=None):
    """torchvision's own model with random weights in place of the published ones, and these."""
    torch.manual_seed(0)
    build, weights = getattr(detection, name), get_model_weights(name).DEFAULT
    fresh = build(weights=None, weights_backbone=None, num_classes=classes or 91, **SIZE)
    tensors = fresh.state_dict()
    for key, tensor in tensors.items():
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    spread(fresh)
    if "_v2" not in name:  # its norms are frozen and do not count batches
        tensors = {key: t for key, t in tensors.items() if "num_batches" not in key}
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: dict(tensors))
    return build, weights, tensors


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("EDGEDETR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hub" / "torchvision"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_an_imported_detector_answers_as_in_torchvision(name, monkeypatch, tmp_path):
    build, weights, tensors = published(name, monkeypatch)
    theirs = build(weights=weights, **SIZE).eval()
    path = tmp_path / "source.safetensors"
    save_file(tensors, path)
    import_model(path, tmp_path / "model.safetensors", input_hw=HW)
    model = load_model(tmp_path / "model.safetensors")
    categories = weights.meta["categories"]
    assert (model.family, model.preset) == (FAMILIES[name], IMPORTED)
    assert model.spec.class_names == tuple(c for c in categories if c not in NAMED)
    (theirs.roi_heads if hasattr(theirs, "roi_heads") else theirs).score_thresh = 0.0
    mean, std = (torch.tensor(x)[:, None, None] for x in (model.spec.mean, model.spec.std))
    with torch.no_grad():
        logits, boxes = model.predict(((IMAGE - mean) / std)[None])
        (wanted,) = theirs([IMAGE])
    real = torch.tensor([categories[label] not in NAMED for label in wanted["labels"]])
    alive = logits[0].amax(-1) > SILENT
    scores, labels = logits[0][alive].sigmoid().max(-1)
    count = len(scores)
    assert count > 20
    torch.testing.assert_close(scores, wanted["scores"][real][:count], atol=1e-5, rtol=0)
    names = [model.spec.class_names[label] for label in labels]
    assert names == [categories[label] for label in wanted["labels"][real][:count]]
    corners = box_convert(boxes[0][alive], "cxcywh", "xyxy")
    shares = wanted["boxes"][real][:count] / torch.tensor([HW[1], HW[0]] * 2)
    torch.testing.assert_close(corners, shares, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_name_is_a_teacher_and_a_start(monkeypatch, cache, tmp_path):
    name = "torchvision:fcos_resnet50_fpn"
    _, weights, tensors = published("fcos_resnet50_fpn", monkeypatch)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(OSError, match="fcos_resnet50_fpn_coco"):  # nothing was downloaded
        source_place(name)
    cache.mkdir(parents=True)
    save_file(tensors, cache / "fcos_resnet50_fpn.safetensors")
    teacher = open_teacher(TeacherConfig(name, (("car",), ("person",))))
    config = StudentConfig("fcos", IMPORTED, HW, init="fcos_resnet50_fpn")
    student = open_student(config, ("person", "tram"))
    assert teacher is not None
    assert teacher.spec.input_hw == (800, 1344)
    assert student.spec.mean == teacher.spec.mean
    key = "head.classification_head.cls_logits.weight"
    row = weights.meta["categories"].index("person")
    assert torch.equal(student.network.state_dict()[key][0], tensors[key][row])


def test_what_torchvision_did_not_publish_is_refused(monkeypatch, tmp_path):
    _, weights, _ = published("fcos_resnet50_fpn", monkeypatch)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    pickled = tmp_path / "checkpoints" / Path(weights.url).name
    pickled.parent.mkdir()
    pickled.write_bytes(b"another file")
    with pytest.raises(ArtifactError, match="is not what torchvision published; remove it"):
        source_place("torchvision:fcos_resnet50_fpn")


def test_without_a_network_the_line_says_what_to_bring_and_where_to(monkeypatch):
    weights = get_model_weights("fcos_resnet50_fpn").DEFAULT

    def offline(*_, weights_only, check_hash, **__):
        assert weights_only
        assert check_hash
        raise OSError("offline")

    monkeypatch.setattr(type(weights), "get_state_dict", offline)
    with pytest.raises(
        ArtifactError, match=r"cannot be had \(offline\); .*/fcos_resnet50\S*\.pth elsewhere"
    ):
        source_place("fcos_resnet50_fpn")


def test_other_models_of_torchvision_are_named():
    with pytest.raises(ArtifactError, match=r"ssd300_vgg16 is no model .* fcos_resnet50_fpn, "):
        source_place("torchvision:ssd300_vgg16")


def test_classes_of_its_own_come_from_the_config_beside_the_file(monkeypatch, tmp_path):
    _, _, tensors = published("retinanet_resnet50_fpn", monkeypatch, classes=3)
    path = tmp_path / "mine.safetensors"
    save_file(tensors, path)
    with pytest.raises(ArtifactError, match="has 3 classes, and only COCO's 91 are known"):
        read_model(path)
    names = {"0": "__background__", "1": "car", "2": "tram"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    assert read_model(path).spec.class_names == ("car", "tram")
    with pytest.raises(ArtifactError, match="an input of 100 x 192, wanted multiples of 32"):
        read_model(path, input_hw=(100, 192))
    del tensors["backbone.body.conv1.weight"]
    save_file(tensors, path)
    with pytest.raises(ArtifactError, match="do not fit torchvision's RetinaNet: Missing key") as e:
        read_model(path)
    assert "\n" not in str(e.value)

import json

import pytest
import torch
import transformers

from edgedetr.distill.model import IMPORTED
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.importing import import_model, read_model
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.manifest import read_manifest

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
ROWS = [1, 2, 4]
"""The rows of the class head that have a class."""


def answers_of_transformers(folder, images=IMAGES):
    network = transformers.AutoModelForObjectDetection.from_pretrained(folder).eval()
    with torch.no_grad():
        return network(pixel_values=images)


def test_an_imported_model_answers_as_in_transformers(foreign_kind, foreign, tmp_path):
    folder = foreign(foreign_kind)
    wanted = answers_of_transformers(folder)
    import_model(folder, tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors")
    with torch.no_grad():
        logits, boxes = model.predict(IMAGES)
    assert (model.family, model.preset) == (foreign_kind.partition("-")[0], IMPORTED)
    assert model.spec.class_names == ("person", "car", "bus")
    if wanted.logits.shape[-1] == 5:
        torch.testing.assert_close(logits, wanted.logits[..., ROWS], atol=1e-5, rtol=0)
    else:  # a softmax, with a column for no object
        scores = wanted.logits.softmax(-1)[..., ROWS]
        torch.testing.assert_close(logits.sigmoid(), scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(boxes, wanted.pred_boxes, atol=1e-5, rtol=0)


def test_the_query_fade_is_off_unless_it_is_asked_for(foreign, tmp_path):
    folder, path = foreign(), tmp_path / "model.safetensors"
    plain = import_model(folder, path)
    assert read_manifest(path).summary == "imported from rt_detr; query fade off"
    import_model(folder, path, query_fade=True)
    assert read_manifest(path).summary == "imported from rt_detr; query fade on"
    with torch.no_grad():
        faded, before = load_model(path).predict(IMAGES), plain.predict(IMAGES)
    assert (faded[0] - before[0]).abs().max() > 1e-4


def test_a_family_that_has_no_fade_refuses_it(foreign):
    with pytest.raises(UsageError, match="deformable_detr has no query fade"):
        read_model(foreign("deformable_detr"), query_fade=True)


def test_weights_in_several_files_are_read(foreign):
    folder = foreign()
    network = transformers.AutoModelForObjectDetection.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    network.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    with torch.no_grad():
        logits, _ = read_model(folder).predict(IMAGES)
    torch.testing.assert_close(logits, answers_of_transformers(folder).logits[..., ROWS])


def test_the_command_writes_a_checkpoint(foreign, tmp_path, edgedetr):
    folder, path = foreign(), tmp_path / "model.safetensors"
    status, out, _ = edgedetr("import", folder, "-o", path, "--input-hw", 96, 128,
                              "--json", tmp_path / "f.json")  # fmt: skip
    assert status == 0
    found = json.loads((tmp_path / "f.json").read_text("utf-8"))
    assert (found["family"], found["spec"]["input_hw"]) == ("rt_detr", [96, 128])
    assert found["parameters"] == sum(p.numel() for p in load_model(path).network.parameters())
    assert read_manifest(path).summary.startswith(f"imported from {folder}")
    assert "rt_detr, 0.2 M parameters, 3 classes, input 96 x 128 (stretch)" in out
    assert load_model(path).spec.input_hw == (96, 128)

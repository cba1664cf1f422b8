import pytest
import torch

from edgedetr.distill.config import StudentConfig
from edgedetr.distill.teacher_config import TeacherConfig
from edgedetr.distill.training.models import open_student, open_teacher
from edgedetr.distill.training.preflight import check_names
from edgedetr.distill.weights import imported_cache
from edgedetr.distill.weights.imported_cache import imported, local_checkpoint
from edgedetr.runtime.manifest import manifest_path, read_manifest

IMAGES = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def brought(foreign, tmp_path, monkeypatch):
    """The hub's name of a random RT-DETR that lies in the cache."""
    monkeypatch.setenv("EDGEDETR_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "hub" / "somebody" / "detector"
    place.parent.mkdir(parents=True)
    foreign().rename(place)
    return "somebody/detector"


def test_a_name_is_imported_once(brought, monkeypatch, rewrite, tmp_path):
    first = imported(brought)
    assert first.parent.parent == tmp_path / "cache" / "imported"
    assert read_manifest(first).summary == f"imported from {brought}; query fade off"
    with monkeypatch.context() as patched:
        patched.setattr(imported_cache, "import_model", None)
        assert imported(brought) == first
    manifest_path(first).write_text("{}")
    assert imported(brought) == first
    assert read_manifest(first).kind == "checkpoint"
    place = tmp_path / "cache" / "hub" / brought
    rewrite(place / "preprocessor_config.json", size={"height": 96, "width": 96})
    assert imported(brought) != first


def test_a_file_is_itself(tmp_path):
    assert local_checkpoint(tmp_path / "a.safetensors") == tmp_path / "a.safetensors"


def test_a_name_is_a_teacher_and_a_start(brought):
    teacher_config = TeacherConfig(brought, (("car",), ("person",)))
    config = StudentConfig("rt_detr", "imported", (64, 96), init=brought)
    check_names(config, brought)
    teacher, student = open_teacher(teacher_config), open_student(config, ("person", "car", "bus"))
    assert teacher is not None
    with torch.no_grad():
        wanted, boxes = teacher.predict(IMAGES)
        logits, own = student.predict(IMAGES)
    assert wanted.shape == (1, 12, 2)
    torch.testing.assert_close(logits[..., [1, 0]], wanted)
    torch.testing.assert_close(own, boxes)


def test_a_start_for_other_classes_has_the_same_size(brought):
    config = StudentConfig("rt_detr", "imported", (64, 96), init=brought)
    student = open_student(config, ("bus", "tram"))
    teacher = open_teacher(TeacherConfig(brought, (("car",),)))
    assert teacher is not None
    assert student.architecture is not None
    assert student.architecture.rows == 2
    assert student.spec.class_names == ("bus", "tram")
    mine, theirs = (m.network.state_dict() for m in (student, teacher))
    name = "model.decoder.layers.0.encoder_attn.value_proj.weight"
    torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=0)

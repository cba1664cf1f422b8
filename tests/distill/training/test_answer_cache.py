from dataclasses import replace

import pytest
import torch

from edgedetr.distill.config import DataConfig, MethodConfig
from edgedetr.distill.dataset_shards import write_shards
from edgedetr.distill.methods import method
from edgedetr.distill.optimizer_config import ScheduleConfig
from edgedetr.distill.teacher_config import TeacherCacheConfig
from edgedetr.distill.training import network_inputs
from edgedetr.distill.training.answer_cache import fill_cache, open_cache, plan_of
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.distill.training.loader import Loading, open_split, training_loader
from edgedetr.distill.training.sampling import Item
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec(input_hw=(64, 96), class_names=("Car", "Pedestrian", "Cyclist"))
SOURCES = {"teacher": "a" * 64, "data.train_split: pixels of images": "b" * 64}
PAIRS = [
    ("clock", "d_fine", "d_fine"),
    ("kd_detr", "d_fine", "d_fine"),
    ("kd_detr", "rt_detr_v2", "dino"),
    ("kd_detr", "faster_rcnn", "d_fine"),
    ("kd_detr", "fcos", "deformable_detr"),
    ("fgd", "d_fine", "dab_detr"),
    ("g_detkd", "d_fine", "faster_rcnn"),
    ("drkd", "retinanet", "retinanet"),
]


@pytest.fixture
def opened(kitti, tmp_path, make_model):
    """Opens the cache of a run on four frames, with its loader and its teacher's memory."""

    def make(family="d_fine", *, epochs=3, batch_size=2, teacher_spec=None, cache=None, **data):
        config = DataConfig(**{"root": str(kitti), "classes": SPEC.class_names} | data)
        schedule = ScheduleConfig(epochs, batch_size, eval_every=1, seed=0)
        teacher = make_model(family, "edge-small", seed=4)
        teacher = replace(teacher, spec=teacher_spec or teacher.spec)
        teacher.network.eval().requires_grad_(requires_grad=False)
        about = TeacherCacheConfig(str(tmp_path / "cache"), **(cache or {}))
        split = open_split(config, "train")
        views = Loading(about.views)
        loader = training_loader(config, schedule, split, SPEC, teacher.spec, views)
        memory = TeacherMemory(teacher, SPEC)
        store = open_cache(about, config, SPEC, teacher, SOURCES)
        memory.store = loader.data.answers = store
        return loader, memory, schedule

    return make


def filled(loader, memory, schedule):
    """Fill a cache; return what was said."""
    lines: list[str] = []
    fill_cache(loader, memory, schedule, lines.append)
    return lines


def weighted_terms(names, student, teacher, loader, memory=None):
    """The distillation terms of a batch of four frames, with the answers of a memory or live."""
    torch.manual_seed(5)
    configs = [MethodConfig(name, 1.0, 0.0, method(name).Settings()) for name in names]
    trainee = trainee_of(configs, student, teacher).train()
    if memory is not None:
        trainee.teacher_memory = memory
    samples = [loader.data[Item(1, index)] for index in range(4)]
    torch.manual_seed(6)
    _, terms = trainee(torch.stack([image for image, _ in samples]), [t for _, t in samples])
    return terms


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "student", "teacher", "augment"),
    [(*pair, "strong") for pair in PAIRS] + [(*PAIRS[0], "flip"), (*PAIRS[-1], "flip")],
)
def test_losses_with_the_cache_are_those_with_the_teacher(
    name, student, teacher, augment, opened, make_model
):
    """In FP32 to the rounding of another batch's order in memory, in FP16 to its own."""
    found = {}
    for precision in ("fp32", "fp16"):
        cache = {"precision": precision}
        loader, memory, schedule = opened(teacher, batch_size=4, augment=augment, cache=cache)
        filled(loader, memory, schedule)
        made = memory.made
        own = make_model(student)
        live = weighted_terms([name], own, memory.teacher, loader)
        found[precision] = live, weighted_terms([name], own, memory.teacher, loader, memory)
        assert memory.made == made, "everything was read"
        loader.data.answers.folder.rename(loader.data.answers.folder.with_name(precision))
    for precision, tolerance in (("fp32", 1e-5), ("fp16", 2e-2)):
        live, read = found[precision]
        for term, value in live.items():
            assert read[term].item() == pytest.approx(value.item(), rel=tolerance, abs=1e-5), term


@pytest.mark.parametrize("teacher", ["d_fine", "dino", "faster_rcnn"])
def test_answers_in_fp32_are_the_teachers_to_the_bit(teacher, opened):
    loader, memory, _ = opened(teacher, augment="strong", cache={"precision": "fp32"})
    samples = [loader.data[Item(1, index)] for index in range(4)]
    images, targets = torch.stack([image for image, _ in samples]), [t for _, t in samples]
    with memory.store:
        live = memory.ask(images, targets)
        made = memory(images, targets)
    assert (memory.read, memory.made) == (0, 4)
    targets = [loader.data[Item(1, index)][1] for index in (2, 0)]
    read = memory(images[[2, 0]], targets)
    assert (memory.read, memory.made) == (2, 4)
    for one, two, three in zip(live.tensors(), made.tensors(), read.tensors(), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one[[2, 0]], three)
    assert [level.shape[-2:] for level in live.levels] == [
        level.shape[-2:] for level in read.levels
    ]


def test_a_teacher_with_an_input_of_its_own_is_read_in_the_students_frame(opened):
    """It sees 64 x 192; a picture that lies in the cache need not be handed over again."""
    wide = replace(SPEC, input_hw=(64, 192))
    loader, memory, schedule = opened(
        augment="strong", teacher_spec=wide, cache={"precision": "fp32"}
    )
    samples = [loader.data[Item(1, index)] for index in range(4)]
    images, targets = torch.stack([image for image, _ in samples]), [t for _, t in samples]
    live = memory.ask(images, targets)
    filled(loader, memory, schedule)
    targets = [loader.data[Item(1, index)][1] for index in range(4)]
    assert all(t.view is not None and not t.view.pixels.any() for t in targets)
    read = memory(images, targets)
    torch.testing.assert_close(read.own.boxes, live.own.boxes)
    torch.testing.assert_close(read.tokens, live.tokens, atol=1e-4, rtol=1e-3)
    assert read.frame is not None
    assert torch.equal(read.frame, live.frame)


def test_epochs_take_the_views_in_turn_whatever_the_seed(opened):
    """Three views in six epochs of four images."""
    loader, memory, _ = opened(augment="strong", cache={"views": 3})
    data = loader.data
    pixels = [data.picture(Item(epoch, 1)).pixels for epoch in range(6)]
    assert [torch.equal(pixels[0], other) for other in pixels] == [True, False, False] * 2
    assert torch.equal(data.picture(Item(0, 1, repeat=2)).pixels, pixels[2])
    names = [list(data.stored_items(Item(epoch, 1))) for epoch in range(4)]
    assert names == [[f"000001, view {n}"] for n in (0, 1, 2, 0)]
    plan = plan_of(loader, 6, memory)
    assert (plan.asked, plan.needed, len(plan.missing)) == (24, 12, 12)
    assert plan_of(loader, 2, memory).needed == 8, "no view is made that no epoch asks for"


def test_an_image_that_is_only_mirrored_has_two_answers_and_is_drawn_as_without_a_cache(opened):
    loader, memory, schedule = opened(augment="flip", cache={"views": 3})
    seed_only = [loader.data.picture(Item(epoch, 1)).pixels for epoch in range(8)]
    assert 0 < sum(torch.equal(seed_only[0], other) for other in seed_only) < 8
    assert list(loader.data.stored_items(Item(5, 1))) == ["000001", "000001, mirrored"]
    filled(loader, memory, schedule)
    made = memory.made
    for epoch in range(3):
        for images, targets in loader.batches(epoch):
            memory(images, targets)
    assert memory.made == made == 8


def test_what_the_last_epochs_only_mirror_and_other_scales_have_answers_of_their_own(opened):
    loader, memory, schedule = opened(
        augment="strong", epochs=4, no_aug_epochs=1, scales=(1.0, 2.0), cache={"views": 2}
    )
    lines = filled(loader, memory, schedule)
    assert not plan_of(loader, 4, memory).missing
    names = {
        name
        for e in range(4)
        for item in loader.items(e)
        for name in loader.data.stored_items(item)
    }
    assert {"000000, view 0", "000000, mirrored", "000000"} <= names
    assert any("scale 2, view" in name for name in names)
    made = memory.made
    for epoch in range(4):
        for images, targets in loader.batches(epoch):
            memory(images, targets)
    assert memory.made == made
    assert "0 of" in lines[0]
    assert "answers to make: about" in lines[1]


def test_a_build_that_was_killed_goes_on_and_a_run_adds_what_is_missing(opened):
    loader, memory, schedule = opened(augment="strong", workers=2)
    plan = plan_of(loader, 3, memory)
    assert len(plan.missing) == 12
    samples = [loader.data[item] for item in plan.missing[:5]]
    with memory.store:
        memory.add_to_store(torch.stack([i for i, _ in samples]), [t for _, t in samples])
    loader, memory, schedule = opened(augment="strong", workers=2)
    plan = plan_of(loader, 3, memory)
    assert (plan.needed, len(plan.missing)) == (12, 7)
    assert plan.known_bytes == memory.store.bytes_on_disk
    with memory.store:
        for images, targets in loader.batches(0):
            memory(images, targets)
    assert memory.read + memory.made == 4
    before = memory.store.bytes_on_disk
    left = len(plan_of(loader, 3, memory).missing)
    assert left == 7 - memory.made
    filled(loader, memory, schedule)
    added = memory.store.bytes_on_disk - before
    assert added == pytest.approx(left * plan.missing_bytes / 7, rel=0.1)
    (line,) = filled(loader, memory, schedule)
    assert "12 of 12 answers are there" in line


def test_frames_without_labels_have_what_the_teacher_detects(opened, kitti, monkeypatch):
    loader, memory, schedule = opened(
        augment="strong", unlabelled=str(kitti / "training/image_2"), unlabelled_share=0.5
    )
    filled(loader, memory, schedule)
    monkeypatch.delattr(memory.teacher.module, "predict")
    for images, targets in loader.batches(0):
        rows = [index for index, t in enumerate(targets) if not t.labelled]
        logits, boxes = memory.predict(images[rows], [targets[i] for i in rows])
        assert logits.shape == (len(rows), 60, 3)
        assert boxes.shape == (len(rows), 60, 4)


def test_pictures_in_tar_shards_have_the_answers_of_the_same_pictures_in_files(
    opened, kitti, tmp_path
):
    filled(*opened(augment="strong", epochs=4))
    write_shards(kitti, tmp_path / "shards", "kitti", 1)
    loader, memory, _ = opened(
        augment="strong", root=str(tmp_path / "shards"), format="shards", workers=2
    )
    for epoch in range(4):
        for images, targets in loader.batches(epoch):
            memory(images, targets)
    assert (memory.read, memory.made) == (16, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_read_has_no_answer_and_that_in_its_place_has(
    opened, kitti, monkeypatch, capsys, workers
):
    """One of four frames with three views; the stand-in's answer is its own."""
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", 0)
    loader, memory, schedule = opened(augment="strong", workers=workers)
    for broken in kitti.glob("training/image_2/000000.png"):
        broken.write_bytes(broken.read_bytes()[:99])
    lines = filled(loader, memory, schedule)
    assert "12 answers but for 1 picture, " in lines[-1]
    made = memory.made
    for epoch in range(3):
        for images, targets in loader.batches(epoch):
            assert "000000" not in {t.frame_id for t in targets}
            memory(images, targets)
    assert memory.made == made
    assert len(plan_of(loader, 3, memory).missing) == 3
    assert len(loader.skipped) == 1
    assert "skipped: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"augment": "flip"}, "another augmentation: it was flip.zoom.light, is flip"),
        ({"cache": {"precision": "fp32"}}, "another precision: it was fp16, is fp32"),
        ({"rectangular": ((64, 128),)}, "another size: it was 64 x 96 .*, is 64 x 128"),
        ({"teacher_spec": replace(SPEC, std=(1.0, 1.0, 0.5))}, "another teacher's input: it was"),
    ],
)
def test_a_cache_of_another_run_is_refused(opened, changed, wanted):
    opened(augment="strong")
    with pytest.raises(ArtifactError, match=wanted):
        opened(**{"augment": "strong"} | changed)


def test_a_cache_of_another_teacher_or_other_images_is_refused(opened, monkeypatch):
    opened()
    for name, wanted in (
        ("teacher", "another teacher: it was aaaaaaaaaaaa..., is cccccccccccc..."),
        ("data.train_split: pixels of images", "another set of images: it was bbbbbbbbbbbb..."),
    ):
        with monkeypatch.context() as patched:
            patched.setitem(SOURCES, name, "c" * 64)
            with pytest.raises(ArtifactError, match=wanted):
                opened()

from dataclasses import replace

import pytest
import torch

from edgedetr.distill.weights.inheritance import evenly_spaced, inherit
from edgedetr.runtime.errors import UsageError

INTO_HEADS = tuple(
    f"{layer}_proj.{kind}" for layer in ("q", "k", "v", "value") for kind in ("weight", "bias")
)
OUT_OF_HEADS = (".o_proj.weight", "output_proj.weight")


def test_a_student_of_the_same_shape_becomes_its_teacher(make_model, images):
    student, teacher = make_model(seed=0), make_model(seed=1)
    inherit(student, teacher)
    for mine, theirs in zip(
        student.predict(images),
        teacher.predict(images),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_channels_are_evenly_spaced():
    tensor = torch.arange(24.0).reshape(6, 4)
    assert evenly_spaced(tensor, (3, 2)).tolist() == [[0, 2], [8, 10], [16, 18]]
    assert evenly_spaced(tensor, (4, 4))[:, 0].tolist() == [0, 4, 12, 16]
    assert evenly_spaced(tensor, (6, 4)) is tensor


def test_a_smaller_student_takes_channels_of_every_tensor_that_fits(make_model):
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    before = {k: v.clone() for k, v in student.network.state_dict().items()}
    taken = set(inherit(student, teacher))
    theirs = teacher.network.state_dict()
    assert len(taken) > 0.9 * sum(v.ndim > 0 for v in before.values())
    for name, tensor in student.network.state_dict().items():
        wanted = evenly_spaced(theirs[name], tensor.shape) if name in taken else before[name]
        assert torch.equal(tensor, wanted), name


def test_fewer_sampling_points_are_whole_points_of_the_same_head(make_model):
    """DEIMv2's pico reads 4 and 2 points of two levels where n reads 6 and 6."""
    student, teacher = make_model("deimv2", "pico"), make_model("deimv2", "n", seed=1)
    inherit(student, teacher)
    mine, theirs = student.network.state_dict(), teacher.network.state_dict()
    heads = student.network.model.decoder.layers[1].encoder_attn.n_heads
    attention = "model.decoder.layers.1.encoder_attn."
    for name, rows, factors in (
        ("sampling_offsets.bias", 2, (4 / 6, 2 / 6)),
        ("attention_weights.bias", 1, (1, 1)),
    ):
        found = mine[attention + name].reshape(heads, 6, rows)
        source = theirs[attention + name].reshape(heads, 12, rows)
        for chosen, wanted, factor in (
            (found[:, :4], [0, 1, 3, 4], factors[0]),
            (found[:, 4:], [6, 9], factors[1]),
        ):
            assert torch.equal(chosen, source[:, wanted] * factor), name


@pytest.mark.parametrize("family", ["rt_detr", "rt_detr_v2", "dino", "deformable_detr"])
def test_every_head_is_one_whole_head_of_the_teacher(make_model, family):
    """The smallest preset has six heads of its teacher's eight, each of 16 channels.

    Each projection of the teacher's holds the number of its channel on the axis of the heads.
    """
    student, teacher = make_model(family), make_model(family, "edge-small", seed=1)
    channel = torch.arange(128.0)
    for name, tensor in teacher.network.state_dict().items():
        if name.endswith(INTO_HEADS):
            tensor.copy_(channel if tensor.ndim == 1 else channel[:, None].expand_as(tensor))
        elif name.endswith(OUT_OF_HEADS):
            tensor.copy_(channel.expand_as(tensor))
    inherit(student, teacher)
    wanted = channel.reshape(8, 16)[[0, 1, 2, 4, 5, 6]].flatten()
    found = student.network.state_dict()
    seen = [name for name in found if name.endswith((*INTO_HEADS, *OUT_OF_HEADS))]
    for name in seen:
        tensor = found[name]
        by_head = tensor.T if name.endswith(OUT_OF_HEADS) else tensor
        assert torch.equal(by_head.reshape(96, -1)[:, 0], wanted), name
        assert torch.equal(by_head.reshape(96, -1)[:, -1], wanted), name
    kinds = {name.rpartition(".")[0].rpartition(".")[2] for name in seen}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "value_proj", "output_proj"}


def test_sampling_points_come_from_the_same_whole_heads(make_model):
    student = make_model("rt_detr_v2", "edge-tiny")
    teacher = make_model("rt_detr_v2", "edge-small", seed=1)
    inherit(student, teacher)
    name = "model.decoder.layers.1.encoder_attn.sampling_offsets.bias"
    mine, theirs = (m.network.state_dict()[name] for m in (student, teacher))
    assert torch.equal(mine.reshape(6, 24), theirs.reshape(8, 24)[[0, 1, 2, 4, 5, 6]])


def test_a_larger_student_is_refused_or_keeps_what_does_not_fit(make_model):
    student, teacher = make_model(preset="edge-small"), make_model(seed=1)
    shapes = {name: tensor.shape for name, tensor in teacher.network.state_dict().items()}
    for name in inherit(student, teacher):
        assert student.network.state_dict()[name].shape == shapes[name], name


def test_classes_that_the_teacher_does_not_know_leave_their_rows_as_they_are(make_model):
    student, teacher = make_model(), make_model(seed=1)
    others = replace(student.spec, class_names=("Van", "Tram", "Truck"))
    state = torch.random.get_rng_state()
    taken = inherit(replace(student, spec=others), teacher)
    assert torch.equal(torch.random.get_rng_state(), state)
    kept = set(student.network.state_dict()) - set(taken)
    assert any("class_embed" in name for name in kept)
    assert all("class" in n or "score" in n or "num_batches" in n for n in kept), kept


def test_a_part_that_is_nowhere_is_refused(make_model):
    with pytest.raises(UsageError, match=r"can inherit nothing .* of 'nowhere'"):
        inherit(make_model(), make_model(seed=1), "nowhere")

import pytest
import torch

from edgedetr.distill.detectors import classifies_regions, decodes_queries, detector
from edgedetr.distill.types import Queries
from edgedetr.runtime.errors import UnknownNameError
from edgedetr.runtime.plugins import names

FAMILIES = names("edgedetr.distill.detectors")
QUERY_FAMILIES = [f for f in FAMILIES if decodes_queries(detector(f))]
REGION_FAMILIES = [f for f in FAMILIES if classifies_regions(detector(f))]


@pytest.mark.usefixtures("unfaded")
@pytest.mark.parametrize("family", QUERY_FAMILIES)
def test_decoding_its_own_queries_gives_its_predictions(family, make_model, images):
    model = make_model(family)
    with torch.no_grad():
        memory = model.encode(images)
        own = model.decode(memory, memory.own)
        logits, boxes = model.predict(images)
    torch.testing.assert_close(own.logits[-1], logits)
    torch.testing.assert_close(own.boxes[-1], boxes, atol=1e-5, rtol=1e-4)
    assert len(own.logits) == len(own.boxes) == model.network.config.decoder_layers
    assert own.hidden.shape[:2] == boxes.shape[:2]
    assert sum(h * w for h, w in memory.spatial_shapes) == memory.tokens.shape[1]


@pytest.mark.parametrize("family", QUERY_FAMILIES)
def test_the_place_of_an_own_query_gives_its_own_content(family, make_model, images):
    """So the model answers a query at a place as it would have answered one that it chose there."""
    model = make_model(family)
    with torch.no_grad():
        memory = model.encode(images)
        content = model.place_content(memory, memory.own.boxes)
    assert content.shape == memory.own.content.shape
    torch.testing.assert_close(content, memory.own.content, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", QUERY_FAMILIES)
def test_groups_do_not_see_one_another(family, make_model, images):
    model = make_model(family)
    memory = model.encode(images)
    boxes = torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    content = model.label_content(torch.arange(6).repeat(2, 1) % 3, boxes)
    content = content + 0.1 * torch.randn(content.shape, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 6, dtype=torch.bool)
    changed = boxes.clone()
    changed[:, 3:] = 0.3

    def first_group(boxes, groups):
        queries = Queries(content, boxes, valid, groups)
        return model.decode(memory, queries).logits[:, :, :3]

    with torch.no_grad():
        torch.testing.assert_close(first_group(boxes, 2), first_group(changed, 2))
        assert (first_group(boxes, 1) - first_group(changed, 1)).abs().max() > 1e-6


@pytest.mark.parametrize("family", QUERY_FAMILIES)
def test_slots_that_only_fill_up_change_nothing(family, make_model, images):
    model = make_model(family)
    boxes = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    content = model.label_content(torch.arange(5).repeat(2, 1) % 3, boxes)
    content = content + 0.1 * torch.randn(content.shape, generator=torch.Generator().manual_seed(0))
    valid = torch.tensor([[True, True, True, False, False]] * 2)
    with torch.no_grad():
        memory = model.encode(images)
        padded = model.decode(memory, Queries(content, boxes, valid))
        short = model.decode(memory, Queries(content[:, :3], boxes[:, :3], valid[:, :3]))
    torch.testing.assert_close(padded.logits[:, :, :3], short.logits)
    torch.testing.assert_close(padded.boxes[:, :, :3], short.boxes)


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_backbones_have_live_batch_norms(family):
    """transformers freezes them by default, and such a model learns nothing."""
    network = detector(family).build("edge-tiny", 3)
    kinds = {type(m).__name__ for m in network.modules()}
    assert "BatchNorm2d" in kinds
    assert not any("Frozen" in k for k in kinds)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prediction_has_one_row_a_query(family, make_model, images):
    model = make_model(family)
    with torch.no_grad():
        logits, boxes = model.predict(images)
    assert logits.shape == (2, boxes.shape[1], 3)
    assert boxes.shape == (2, boxes.shape[1], 4)
    assert logits.isfinite().all()
    assert 0 <= boxes.min() <= boxes.max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_training_passes_reach_every_parameter(family, make_model, images, targets):
    model = make_model(family)
    model.network.train()
    losses, memory = model.training_pass(images, targets)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert all(t.grad_fn is not None for t in memory.tensors()[:1])
    silent = [n for n, p in model.network.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


@pytest.mark.parametrize("family", FAMILIES)
def test_images_without_objects_train(family, make_model, make_targets, images):
    model = make_model(family)
    model.network.train()
    losses, _ = model.training_pass(images, [make_targets()] * 2)
    torch.stack(list(losses.values())).sum().backward()
    assert all(v.isfinite() for v in losses.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_in_ignored_areas_are_no_background(family, make_model, make_targets, images):
    """With the whole image ignored and nothing labelled, no class has a target."""
    model = make_model(family)
    model.network.train()
    everywhere = make_targets(ignored=[(0.5, 0.5, 1.0, 1.0)])
    plain, _ = model.training_pass(images, [make_targets()] * 2)
    ignored, _ = model.training_pass(images, [everywhere] * 2)
    totals = [torch.stack(list(x.values())).sum().item() for x in (plain, ignored)]
    assert totals[0] > 0
    assert totals[1] < 0.02 * totals[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_more_objects_than_queries_train(family, make_model, make_targets, images):
    model = make_model(family)
    model.network.train()
    crowd = make_targets(*[(0.3 + 0.004 * i, 0.5, 0.2, 0.3) for i in range(80)])
    losses, _ = model.training_pass(images, [crowd, make_targets()])
    assert all(v.isfinite() for v in losses.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_regions_are_boxes_with_embeddings(family, make_model, images):
    model = make_model(family)
    found = model.regions(model.encode(images))
    assert len(found.boxes) == 2
    boxes = torch.cat(found.boxes)
    assert len(boxes) == len(found.embeddings) == len(found.kinds) > 0
    assert found.embeddings.shape[1] == model.embedding_width
    assert 0 <= found.kinds.min() <= found.kinds.max() < model.anchor_kinds
    assert not boxes.requires_grad
    assert 0 <= boxes.min() <= boxes.max() <= 1
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    found.embeddings.sum().backward()


@pytest.mark.parametrize("family", REGION_FAMILIES)
def test_given_boxes_do_not_see_one_another(family, make_model, images):
    model = make_model(family)
    boxes = [torch.tensor([[0.1, 0.2, 0.5, 0.8], [0.3, 0.3, 0.9, 0.9]]), torch.zeros(0, 4)]
    with torch.no_grad():
        memory = model.encode(images)
        answers = model.classify_regions(memory, boxes)
        swapped = model.classify_regions(memory, [boxes[0].flip(0), boxes[1]])
    assert answers.logits.shape == (2, 4)
    assert answers.deltas.shape == answers.boxes.shape == (2, 3, 4)
    assert answers.features.shape[2:] == (7, 7)
    assert len(answers.embeddings) == 2
    torch.testing.assert_close(answers.logits.flip(0), swapped.logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_edge_presets_are_small(family):
    module = detector(family)
    sizes = [
        sum(p.numel() for p in module.build(name, 3).parameters())
        for name in ("edge-tiny", "edge-small")
    ]
    assert sizes[0] < 1.5e6 < sizes[1] < 3.2e6
    assert module.width(module.build("edge-tiny", 3)) > 0


def test_dfines_smallest_preset_is_a_thinner_edge_tiny():
    micro, tiny = (detector("d_fine").build(name, 3) for name in ("edge-micro", "edge-tiny"))
    thin, wide = (dict(network.named_parameters()) for network in (micro, tiny))
    assert list(thin) == list(wide)
    assert all(p.numel() <= wide[name].numel() for name, p in thin.items())
    assert sum(p.numel() for p in thin.values()) < 0.85e6


def test_a_misspelt_family_names_the_right_one():
    with pytest.raises(UnknownNameError, match="did you mean 'd_fine'"):
        detector("dfine")

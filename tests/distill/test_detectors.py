import pytest
import torch

from edgedetr.distill.detectors import Queries, detector
from edgedetr.runtime.errors import UnknownNameError
from edgedetr.runtime.plugins import names

FAMILIES = names("edgedetr.distill.detectors")


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_its_own_queries_gives_its_own_answer(family, make_model, images):
    model = make_model(family)
    with torch.no_grad():
        memory = model.module.encode(model.network, images)
        own = model.module.decode(model.network, memory, memory.own)
        logits, boxes = model.module.predict(model.network, images)
    torch.testing.assert_close(own.logits[-1], logits)
    torch.testing.assert_close(own.boxes[-1], boxes, atol=1e-5, rtol=1e-4)
    assert own.logits.shape[0] == own.boxes.shape[0] == model.network.config.decoder_layers
    assert sum(h * w for h, w in memory.spatial_shapes) == memory.tokens.shape[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_do_not_see_one_another(family, make_model, images):
    model = make_model(family)
    memory = model.module.encode(model.network, images)
    boxes = torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    content = model.module.label_content(model.network, torch.arange(6).repeat(2, 1) % 3)
    valid = torch.ones(2, 6, dtype=torch.bool)
    changed = boxes.clone()
    changed[:, 3:] = 0.3

    def first_group(boxes, groups):
        queries = Queries(content, boxes, valid, groups)
        return model.module.decode(model.network, memory, queries).logits[:, :, :3]

    with torch.no_grad():
        torch.testing.assert_close(first_group(boxes, 2), first_group(changed, 2))
        assert (first_group(boxes, 1) - first_group(changed, 1)).abs().max() > 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_backbones_have_live_batch_norms(family):
    """transformers freezes them by default, and such a model learns nothing."""
    network = detector(family).build("edge-tiny", 3)
    kinds = {type(m).__name__ for m in network.modules()}
    assert "BatchNorm2d" in kinds
    assert not any("Frozen" in k for k in kinds)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_passes_teach_every_layer(family, make_model, images, targets):
    model = make_model(family)
    model.network.train()
    losses, memory = model.module.training_pass(model.network, images, targets)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert memory.tokens.grad_fn is not None
    layers = model.network.config.decoder_layers
    assert sum(name.startswith("loss_vfl") for name in losses) >= 2 * layers + 1
    silent = [n for n, p in model.network.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


@pytest.mark.parametrize("family", FAMILIES)
def test_images_without_objects_train(family, make_model, make_targets, images):
    model = make_model(family)
    model.network.train()
    losses, _ = model.module.training_pass(model.network, images, [make_targets()] * 2)
    torch.stack(list(losses.values())).sum().backward()
    assert all(v.isfinite() for v in losses.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_preset_is_built_from_its_table(family):
    module = detector(family)
    assert {"edge-tiny", "edge-small"} <= set(module.PRESETS)
    sizes = [
        sum(p.numel() for p in module.build(name, 3).parameters())
        for name in ("edge-tiny", "edge-small")
    ]
    assert sizes[0] < 1.5e6 < sizes[1] < 3.2e6


def test_a_misspelt_family_names_the_right_one():
    with pytest.raises(UnknownNameError, match="did you mean 'd_fine'"):
        detector("dfine")

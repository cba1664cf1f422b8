import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from edgedetr.distill import recipe
from edgedetr.distill.methods.foundation import Settings, build, direction_loss
from edgedetr.distill.types import Batch, Pyramid
from edgedetr.runtime.plugins import names
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((16, 16), ("features",), mean=(0.5,) * 3, std=(0.25,) * 3)


@dataclass
class Pooled:
    """Stands for a backbone: its features are a linear map of the pixels' mean in each patch."""

    width: int = 5
    spec: ModelSpec = SPEC
    seen: torch.Tensor | None = None

    def encode(self, images):
        self.seen = images
        maps = torch.randn(self.width, 3, generator=torch.Generator().manual_seed(0))
        pooled = nn.functional.avg_pool2d(images, 16)
        return Pyramid((torch.einsum("dc,bchw->bdhw", maps, pooled),), (64, 96))


def test_cells_are_to_point_the_same_way():
    """Cosines 1, 0 and -1 cost 0, 1 and 2; of the cells that count the mean is 1."""
    level = torch.tensor([[[[1.0, 1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]]]])
    target = torch.tensor([[[[3.0, 0.0, -2.0, -1.0]], [[0.0, 5.0, 0.0, 0.0]]]])
    counted = torch.tensor([[[True, True, True, False]]])
    assert direction_loss(nn.Identity(), level, target, counted).item() == pytest.approx(1)
    none = torch.zeros_like(counted)
    assert direction_loss(nn.Identity(), level, target, none).item() == 0


@pytest.mark.parametrize("family", names("edgedetr.distill.detectors"))
def test_the_term_trains_every_family_and_the_backbone_sees_its_own_normalization(
    family, make_model, images, targets
):
    student, foundation = make_model(family), Pooled()
    method = build(Settings(), student, foundation)  # type: ignore[arg-type]
    batch = Batch(images, targets, student.encode(images), None)
    terms = method(batch)
    assert tuple(terms) == method.terms
    assert foundation.seen is not None
    torch.testing.assert_close(foundation.seen, (images - 0.5) / 0.25)
    levels = [t for t in batch.memory.tensors() if t.requires_grad]
    gradients = torch.autograd.grad(terms["features"], levels, allow_unused=True)
    assert sum(g.abs().sum() for g in gradients if g is not None) > 0  # type: ignore[misc, redundant-expr]


def test_the_adapter_starts_at_the_least_squares(make_model, images, targets):
    student = make_model()
    method = build(Settings(), student, Pooled())  # type: ignore[arg-type]
    batch = Batch(images, targets, student.encode(images), None)
    before = method(batch)["features"].item()
    method.fit([batch])
    assert method(batch)["features"].item() < 0.7 * before


@pytest.mark.slow
def test_a_run_without_a_teacher_learns_from_a_dinov3(config, tmp_path):
    network = DINOv3ViTModel(
        DINOv3ViTConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
        )
    )
    folder = tmp_path / "dinov3"
    network.save_pretrained(folder)
    values = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(values), encoding="utf-8")
    config = replace(config, foundation=str(folder), methods=("foundation",), epochs=1)
    metrics = recipe.train(config, tmp_path / "run", "a command")
    assert metrics["ap"] >= 0
    line = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(line)["foundation_features"] > 0
    sources = json.loads((tmp_path / "run" / "metrics.json").read_text())["sources"]
    assert len(sources["foundation"]) == 64

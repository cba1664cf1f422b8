import json
import re

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torchvision.models import resnet18

from edgedetr.distill.networks.backbones import backbone_of
from edgedetr.distill.weights.importing import read_model
from edgedetr.distill.weights.timm_backbone import in_transformers_names, in_transformers_terms
from edgedetr.runtime.errors import ArtifactError


def test_a_backbone_of_timm_computes_what_it_does_in_timm(foreign):
    """The tensors of timm's ResNet-18 have torchvision's names, as the published files do."""
    folder = foreign("dab_detr", backbone_config={"model_type": "resnet", **_SHAPE})
    network = transformers.AutoModelForObjectDetection.from_pretrained(folder)
    body = resnet18().eval()
    place = "model.backbone.conv_encoder.model."
    kept = {k: v for k, v in network.state_dict().items() if not k.startswith(place)}
    timm = {k: v for k, v in body.state_dict().items() if not re.match(r"fc\.|.*batches", k)}
    tensors = kept | {f"{place}{name}": tensor for name, tensor in timm.items()}
    save_file({k: v.clone() for k, v in tensors.items()}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config |= {"backbone_config": None, "use_timm_backbone": True, "backbone": "resnet18"}
    (folder / "config.json").write_text(json.dumps(config))
    model = read_model(folder)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found = backbone_of(model.network)(images).feature_maps[-1]
        stem = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        wanted = body.layer4(body.layer3(body.layer2(body.layer1(stem))))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


_SHAPE = {
    "hidden_sizes": [64, 128, 256, 512],
    "depths": [2, 2, 2, 2],
    "layer_type": "basic",
    "out_indices": [4],
}


def test_other_tensors_keep_their_names():
    tensors = {
        "model.backbone.model.embedder.x": torch.ones(1),
        "class_embed.weight": torch.ones(2),
    }
    assert in_transformers_names(tensors).keys() == tensors.keys()


def test_deformable_detr_takes_the_last_three_levels(tmp_path):
    values = in_transformers_terms("deformable_detr", {"backbone": "resnet50"}, tmp_path)
    assert values["backbone_config"]["out_indices"] == [2, 3, 4]
    assert "backbone" not in values
    plain = {"backbone_config": {"model_type": "resnet"}}
    assert in_transformers_terms("deformable_detr", plain, tmp_path) == plain
    assert in_transformers_terms("yolos", {"hidden_size": 1}, tmp_path) == {"hidden_size": 1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "swin_tiny"}, "swin_tiny is one of timm's, which is not installed"),
        ({"dilation": True}, r"resnet50 is dilated \(DC5\), which only timm builds"),
    ],
)
def test_what_only_timm_can_build_is_refused(tmp_path, values, message):
    with pytest.raises(ArtifactError, match=message):
        in_transformers_terms("detr", values, tmp_path)

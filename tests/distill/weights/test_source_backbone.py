import json

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from edgedetr.distill.config import StudentConfig
from edgedetr.distill.networks.backbones import backbone_of
from edgedetr.distill.training.models import open_student
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.source_backbone import import_backbone, is_backbone
from edgedetr.runtime.errors import ArtifactError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def source():
    """torchvision's ResNet-18, with statistics of its own."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            tensor.uniform_(0.5, 1.5)
    return network


@pytest.fixture
def timm_folder(source, tmp_path):
    """As timm publishes it."""
    folder = tmp_path / "resnet18.tv_in1k"
    folder.mkdir()
    save_file(source.state_dict(), folder / "model.safetensors")
    config = {"architecture": "resnet18", "pretrained_cfg": {"mean": MEAN, "std": STD}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_backbone_is_imported_and_a_student_starts_from_it(
    source, timm_folder, tmp_path, edgedetr
):
    path = tmp_path / "backbone.safetensors"
    status, out, _ = edgedetr("import", timm_folder, "-o", path)
    assert status == 0
    assert "backbone resnet18; name it in student.backbone_weights" in out
    config = StudentConfig(family="dab_detr", preset="r18", backbone_weights=str(path))
    student = open_student(config, ("car",))
    assert (student.spec.mean, student.spec.std) == (MEAN, STD)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found = backbone_of(student.network).eval()(images).feature_maps[-1]
        x = source.maxpool(source.relu(source.bn1(source.conv1(images))))
        wanted = source.layer4(source.layer3(source.layer2(source.layer1(x))))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    with pytest.raises(
        ArtifactError, match=r"is a backbone alone, no detector; name it in student\.backbone"
    ):
        load_model(path)


def test_a_file_of_torchvision_is_known_by_its_names(source, foreign, tmp_path):
    save_file(source.state_dict(), tmp_path / "resnet.safetensors")
    assert is_backbone(tmp_path / "resnet.safetensors")
    assert (
        import_backbone(tmp_path / "resnet.safetensors", tmp_path / "b.safetensors", name="x")
        == "resnet18"
    )
    assert is_backbone(tmp_path / "b.safetensors")
    assert not is_backbone(foreign())
    assert not is_backbone(foreign() / "model.safetensors")
    assert not is_backbone(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [1, 1, 1, 1]}, "basic blocks of depths 1, 1, 1, 1"),
        ({"layers": [3, 4, 6, 3], "wide": True}, "another backbone than ResNetBackbone"),
    ],
)
def test_another_backbone_is_one_line(options, message, tmp_path):
    kinds = torchvision.models.resnet
    wide = options.pop("wide", False)
    block, width = (kinds.Bottleneck, {"width_per_group": 128}) if wide else (kinds.BasicBlock, {})
    network = torchvision.models.ResNet(block, **options, **width)
    save_file(network.state_dict(), tmp_path / "r.safetensors")
    with pytest.raises(ArtifactError, match=message) as e:
        import_backbone(tmp_path / "r.safetensors", tmp_path / "b.safetensors", name="x")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "b.safetensors").exists()


def test_a_backbone_has_no_fade_and_no_input(timm_folder, tmp_path, edgedetr):
    path = tmp_path / "b.safetensors"
    status, _, err = edgedetr("import", timm_folder, "-o", path, "--query-fade")
    assert status == 2
    assert "is a backbone; leave out --query-fade and --input-hw" in err

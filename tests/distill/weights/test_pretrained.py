import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet
from torchvision.ops import FrozenBatchNorm2d
from transformers import AutoBackbone

from edgedetr.distill.detectors import detector
from edgedetr.distill.networks.backbones import ResNet, backbone_of, resnet_config, resnet_d_config
from edgedetr.distill.weights import pretrained
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.distill.weights.pretrained import load_backbone, load_detector
from edgedetr.runtime.errors import ArtifactError

IMAGES = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
SHALLOW = {"basic": ResNet((1, 2, 1, 1), "basic"), "bottleneck": ResNet((1, 2, 1, 1), "bottleneck")}


def stirred(network):
    """Give batch norms statistics and affine parts of their own."""
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.1)
        elif name.endswith("running_var") or tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
    return network


def plain_resnet(layer_type):
    """A torchvision ResNet for classification, in evaluation mode."""
    torch.manual_seed(0)
    block = {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}[layer_type]
    return stirred(torchvision.models.ResNet(block, SHALLOW[layer_type].depths, 10)).eval()


def last_level(network, images):
    """The last feature map of a torchvision ResNet."""
    body = nn.Sequential(*list(network.children())[:-2])
    return body(images)


def timm_resnet_d(layer_type, depths):
    """The tensors of timm's ResNet-D, by its names: deep stem, pooled shortcuts."""
    units = [("conv1.0", "conv1.1", 32, 3, 3), ("conv1.3", "conv1.4", 32, 32, 3)]
    units.append(("conv1.6", "bn1", 64, 32, 3))
    kernels, growth = ([3, 3], 1) if layer_type == "basic" else ([1, 3, 1], 4)
    before = 64
    for stage, block in ((s, b) for s, depth in enumerate(depths) for b in range(depth)):
        place, inner = f"layer{stage + 1}.{block}", 64 << stage
        widths = [before, *[inner] * (len(kernels) - 1), inner * growth]
        units += [
            (f"{place}.conv{i + 1}", f"{place}.bn{i + 1}", widths[i + 1], widths[i], kernel)
            for i, kernel in enumerate(kernels)
        ]
        if before != widths[-1]:
            shortcut = (f"{place}.downsample.1", f"{place}.downsample.2")
            units.append((*shortcut, widths[-1], before, 1))
        before = widths[-1]
    generator = torch.Generator().manual_seed(1)
    tensors = {"fc.weight": torch.zeros(10, before), "fc.bias": torch.zeros(10)}
    for convolution, norm, out, width, kernel in units:
        weight = torch.randn((out, width, kernel, kernel), generator=generator)
        tensors[f"{convolution}.weight"] = weight * (width * kernel * kernel) ** -0.5
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{part}"] = 0.5 + torch.rand(out, generator=generator)
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    return tensors


def resnet_d_features(tensors, depths, images):
    """The last feature map of a ResNet-D, computed from timm's tensors (He et al., 2019)."""

    def unit(x, conv, norm, stride=1):
        weight = tensors[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var, gain, bias = (
            tensors[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, gain, bias)

    x = unit(images, "conv1.0", "conv1.1", 2).relu()
    x = unit(unit(x, "conv1.3", "conv1.4").relu(), "conv1.6", "bn1").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            place, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            convolutions = 3 if f"{place}.conv3.weight" in tensors else 2
            shortcut = F.avg_pool2d(x, 2, 2, ceil_mode=True) if stride == 2 else x
            if f"{place}.downsample.1.weight" in tensors:
                shortcut = unit(shortcut, f"{place}.downsample.1", f"{place}.downsample.2")
            for index in range(1, convolutions + 1):
                strided = index == convolutions - 1
                x = unit(x, f"{place}.conv{index}", f"{place}.bn{index}", stride if strided else 1)
                x = x.relu() if index < convolutions else x
            x = (x + shortcut).relu()
    return x


@pytest.mark.parametrize("layer_type", SHALLOW)
def test_a_resnet_of_torchvision_has_the_same_features_in_transformers(layer_type, tmp_path):
    """timm calls the tensors of a plain ResNet alike."""
    source = plain_resnet(layer_type)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    backbone = AutoBackbone.from_config(resnet_config(SHALLOW[layer_type], 1))
    load_backbone(backbone, str(tmp_path / "w.safetensors"))
    with torch.no_grad():
        (found,) = backbone(IMAGES).feature_maps
        wanted = last_level(source, IMAGES)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_resnet_of_torchvision_has_the_same_features_in_a_pyramid(tmp_path):
    source = stirred(torchvision.models.resnet18()).eval()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    network = detector("retinanet").build("r18", 3)
    load_backbone(network, str(tmp_path / "w.safetensors"))
    with torch.no_grad():
        *_, found = backbone_of(network)(IMAGES).values()
        wanted = last_level(source, IMAGES)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer_type", SHALLOW)
def test_a_resnet_d_of_timm_has_the_same_features_in_rt_detr(layer_type, tmp_path):
    depths = (2, 2, 1, 1) if layer_type == "basic" else (1, 2, 1, 1)
    tensors = timm_resnet_d(layer_type, depths)
    save_file(tensors, tmp_path / "w.safetensors")
    backbone = AutoBackbone.from_config(resnet_d_config(ResNet(depths, layer_type), 1))
    load_backbone(backbone, str(tmp_path / "w.safetensors"))
    with torch.no_grad():
        (found,) = backbone(IMAGES).feature_maps
    wanted = resnet_d_features(tensors, depths, IMAGES)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("family", "preset"), [("rt_detr", "r18"), ("dab_detr", "r18")])
def test_the_backbone_is_frozen_where_it_was_loaded_and_nowhere_else(family, preset, tmp_path):
    network = detector(family).build(preset, 3)
    norms = [m for m in backbone_of(network).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    if family == "rt_detr":
        tensors = timm_resnet_d("basic", (2, 2, 2, 2))
    else:
        tensors = torchvision.models.resnet18().state_dict()
    save_file(tensors, tmp_path / "w.safetensors")
    elsewhere = sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) - len(norms)
    load_backbone(network, str(tmp_path / "w.safetensors"))
    kinds = [type(m) for m in network.modules()]
    assert kinds.count(FrozenBatchNorm2d) == len(norms)
    assert sum(issubclass(k, nn.BatchNorm2d) for k in kinds) == elsewhere
    before = {n: b.clone() for n, b in backbone_of(network).named_buffers()}
    with torch.no_grad():
        network.train()
        detector(family).encode(network, torch.rand(2, 3, 160, 160))
    after = dict(backbone_of(network).named_buffers())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_a_frozen_student_comes_back_from_its_checkpoint(make_model, images, tmp_path):
    model = make_model()
    pretrained.freeze_batch_norms(backbone_of(model.network))
    save_model(tmp_path / "m.safetensors", model, command="a test")
    loaded = load_model(tmp_path / "m.safetensors")
    with torch.no_grad():
        wanted, found = (m.encode(images).tensors()[0] for m in (model, loaded))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert not torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize(
    ("layer_type", "depths", "message"),
    [
        ("basic", (1, 1, 1, 1), r"layer2\.1\.conv1\.weight is \(128, 128, 3, 3\), wanted none"),
        (
            "bottleneck",
            (1, 2, 1, 1),
            r"layer1\.0\.conv1\.weight is .64, 64, 3, 3., wanted .64, 64, 1, 1.",
        ),
    ],
)
def test_weights_of_another_resnet_are_refused_with_the_tensors(
    layer_type, depths, message, tmp_path
):
    save_file(plain_resnet("basic").state_dict(), tmp_path / "w.safetensors")
    backbone = AutoBackbone.from_config(resnet_config(ResNet(depths, layer_type), 1))
    before = {n: t.clone() for n, t in backbone.state_dict().items()}
    with pytest.raises(ArtifactError, match=f"another backbone than ResNetBackbone.*({message})"):
        load_backbone(backbone, str(tmp_path / "w.safetensors"))
    assert all(torch.equal(before[n], t) for n, t in backbone.state_dict().items())


def test_a_plain_resnet_is_no_resnet_d(tmp_path):
    save_file(plain_resnet("basic").state_dict(), tmp_path / "w.safetensors")
    backbone = AutoBackbone.from_config(resnet_d_config(SHALLOW["basic"], 1))
    with pytest.raises(ArtifactError, match=r"embedder.*timm's resnet18d"):
        load_backbone(backbone, str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("name", ["resnet18.pth", "pytorch_model.bin", "w.pt"])
def test_a_pickle_is_refused_with_how_to_convert_it(name, tmp_path, make_model):
    torch.save({}, tmp_path / name)
    for load in (load_backbone, load_detector):
        with pytest.raises(ArtifactError, match=r"is a pickle.*safetensors\.torch\.save_file"):
            load(make_model().network, str(tmp_path / name))


@pytest.mark.parametrize(
    ("source", "content", "message"),
    [
        ("none.safetensors", None, "no file .*none.safetensors; wanted"),
        ("bad.safetensors", b"no", "is no readable safetensors file"),
    ],
)
def test_a_missing_or_damaged_file_is_one_line(source, content, message, tmp_path, make_model):
    if content:
        (tmp_path / source).write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        load_backbone(make_model().network, str(tmp_path / source))
    assert "\n" not in str(caught.value)


def test_a_hub_repository_is_downloaded(monkeypatch, tmp_path):
    save_file(plain_resnet("basic").state_dict(), tmp_path / "w.safetensors")
    asked = []

    def download(repository):
        asked.append(repository)
        return tmp_path / "w.safetensors"

    monkeypatch.setattr(pretrained, "_downloaded", download)
    backbone = AutoBackbone.from_config(resnet_config(SHALLOW["basic"], 1))
    load_backbone(backbone, "timm/resnet18.a1_in1k")
    assert asked == ["timm/resnet18.a1_in1k"]


def test_a_hub_without_network_is_one_line(monkeypatch, make_model):
    def offline(*_):
        raise ConnectionError("offline\nmore")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(
        ArtifactError, match=r"timm/r18 is .* from the hub \(offline\); try again, or"
    ):
        load_backbone(make_model().network, "timm/r18")


def of_transformers_4(name):
    """Name a tensor as transformers 4 did."""
    name = re.sub(r"encoder\.aifi\.(\d)", r"encoder.encoder.\1", name).replace("o_proj", "out_proj")
    return re.sub(r"layers\.(\d+)\.mlp\.fc(\d)", r"layers.\1.fc\2", name)


@pytest.mark.parametrize("rename", [str, of_transformers_4])
def test_a_detector_of_other_classes_fills_all_but_its_heads(rename, tmp_path):
    family = detector("rt_detr_v2")
    torch.manual_seed(0)
    source, network = family.build("edge-tiny", 80), family.build("edge-tiny", 3)
    tensors = {rename(n): t.clone() for n, t in source.state_dict().items()}
    save_file(tensors, tmp_path / "w.safetensors")
    fresh = {n: t.clone() for n, t in network.state_dict().items()}
    filled, count = load_detector(network, str(tmp_path / "w.safetensors"))
    theirs, ours = source.state_dict(), network.state_dict()
    heads = [n for n, t in fresh.items() if t.shape != theirs[n].shape]
    assert heads
    assert all("class" in n or "score" in n for n in heads)
    assert (filled, count) == (
        sum(t.ndim > 0 for t in fresh.values()) - len(heads),
        filled + len(heads),
    )
    for name, tensor in ours.items():
        assert torch.equal(tensor, fresh[name] if name in heads else theirs[name]), name
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone_of(network).modules())


def test_a_detector_of_another_size_is_refused(tmp_path):
    family = detector("rt_detr_v2")
    save_file(
        {n: t.clone() for n, t in family.build("edge-small", 3).state_dict().items()},
        tmp_path / "w.safetensors",
    )
    with pytest.raises(ArtifactError, match=r"fills \d+ of \d+ tensors of this preset, less than"):
        load_detector(family.build("edge-tiny", 3), str(tmp_path / "w.safetensors"))

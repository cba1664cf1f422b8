import json
import re
from collections import defaultdict

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import DFineConfig, DFineForObjectDetection
from typing_extensions import override

from edgedetr.distill.detectors import d_fine
from edgedetr.distill.model import IMPORTED
from edgedetr.distill.weights import source_file
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.importing import import_model
from edgedetr.distill.weights.source_file import COCO, read_file
from edgedetr.runtime.errors import ArtifactError

ROWS = len(COCO)
IMAGES = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
INVERSE = (
    ("model.backbone.model.embedder.", "backbone.stem."),
    ("model.backbone.model.encoder.", "backbone."),
    (r"model\.encoder_input_proj\.(\d)\.0", r"encoder.input_proj.\1.conv"),
    (r"model\.encoder_input_proj\.(\d)\.1", r"encoder.input_proj.\1.norm"),
    ("model.encoder.aifi.", "encoder.encoder."),
    (r"model\.encoder\.downsample_convs\.(\d)\.conv", r"encoder.downsample_convs.\1.0.cv"),
    ("model.encoder.", "encoder."),
    ("model.decoder.class_embed", "decoder.dec_score_head"),
    ("model.decoder.bbox_embed", "decoder.dec_bbox_head"),
    ("model.decoder.layers", "decoder.decoder.layers"),
    ("model.decoder.lqe_layers", "decoder.decoder.lqe_layers"),
    ("model.decoder.", "decoder."),
    (r"model\.decoder_input_proj\.(\d)\.0", r"decoder.input_proj.\1.conv"),
    (r"model\.decoder_input_proj\.(\d)\.1", r"decoder.input_proj.\1.norm"),
    ("model.enc_output.0", "decoder.enc_output.proj"),
    ("model.enc_output.1", "decoder.enc_output.norm"),
    ("model.", "decoder."),
)
"""What a name of transformers begins with, and RT-DETRv4's; written down apart from the code."""
INSIDE = {
    "backbone.": ((r"\.convolution\.", ".conv."), (r"\.normalization\.", ".bn.")),
    "encoder.fpn_blocks.": (
        (r"(blocks\.\d)\.conv1\.", r"\1.cv1."),
        (r"(blocks\.\d)\.conv2\.", r"\1.cv2.1."),
        (r"(blocks\.\d)\.conv3\.", r"\1.cv3.1."),
        (r"(blocks\.\d)\.conv4\.", r"\1.cv4."),
        (r"csp_rep1", "cv2.0"),
        (r"csp_rep2", "cv3.0"),
    ),
    "encoder.encoder.": (
        (r"o_proj", "out_proj"),
        (r"mlp\.layers\.0", "linear1"),
        (r"mlp\.layers\.1", "linear2"),
        (r"self_attn_layer_norm", "norm1"),
        (r"final_layer_norm", "norm2"),
    ),
}
INSIDE["encoder.pan_blocks."] = INSIDE["encoder.fpn_blocks."]
INSIDE["decoder.decoder.layers."] = (
    *INSIDE["encoder.encoder."][:4],
    (r"final_layer_norm", "norm3"),
    (r"encoder_attn", "cross_attn"),
)


def name_in_rt_detr_v4(name):
    found = name
    for ours, theirs in INVERSE:
        found, count = re.subn(f"^{ours}", theirs, name)
        if count:
            break
    for place, pairs in INSIDE.items():
        if found.startswith(place):
            for ours, theirs in pairs:
                found = re.sub(ours, theirs, found)
    return found


def as_published(network):
    """The tensors of a D-FINE of transformers as RT-DETRv4's file has them."""
    tensors = {}
    apart: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in network.state_dict().items():
        if name.startswith(("class_embed", "bbox_embed")):  # the decoder has them as well
            continue
        theirs = name_in_rt_detr_v4(name)
        match = re.fullmatch(r"(.*\.)([qkv])_proj\.(weight|bias)", theirs)
        if match:
            apart[f"{match[1]}in_proj_{match[3]}"][match[2]] = tensor
        else:
            tensors[theirs] = tensor
    tensors |= {n: torch.cat([parts[k] for k in "qkv"]) for n, parts in apart.items()}
    extra = {
        "encoder.feature_projector.0.weight": torch.zeros(768, 8),
        "decoder.decoder.up": tensors["decoder.up"],
        "decoder.decoder.reg_scale": tensors["decoder.reg_scale"],
        "decoder.anchors": torch.full((1, 4), torch.inf),
    }
    return {name: tensor.clone() for name, tensor in (tensors | extra).items()}


@pytest.fixture
def network(monkeypatch):
    """A small D-FINE in place of the published size S, whose heads have SiLU."""
    monkeypatch.setattr(source_file, "SIZES", {16: "edge-tiny"})
    values = d_fine.configuration("edge-tiny", ROWS).to_dict() | {
        "decoder_activation_function": "silu",
        "reg_scale": 8.0,
    }
    with torch.no_grad():
        made = DFineForObjectDetection(DFineConfig.from_dict(values))
        for name, tensor in made.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and "num_points_scale" not in name:
                tensor.add_(0.1 * torch.randn_like(tensor))
    return made.eval()


@pytest.fixture
def published(network, tmp_path):
    """Its file."""
    path = tmp_path / "rtv4_hgnetv2_s_coco.safetensors"
    save_file(as_published(network), path)
    return path


def with_silu(network):
    """Its heads compute with SiLU, as those of RT-DETRv4 do."""

    class Silu(nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.layers = layers

        @override
        def forward(self, x):
            *inner, last = self.layers
            for layer in inner:
                x = nn.functional.silu(layer(x))
            return last(x)

    model, decoder = network.model, network.model.decoder
    model.enc_bbox_head = Silu(model.enc_bbox_head.layers)
    decoder.query_pos_head = Silu(decoder.query_pos_head.layers)
    decoder.pre_bbox_head = Silu(decoder.pre_bbox_head.layers)
    for layer in decoder.lqe_layers:
        layer.reg_conf = Silu(layer.reg_conf.layers)
    for index, head in enumerate(decoder.bbox_embed):
        decoder.bbox_embed[index] = Silu(head.layers)
    return network


def test_every_tensor_of_the_network_is_filled_and_none_is_left_over(network, published):
    model = read_file(published)
    wanted, found = network.state_dict(), model.network.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], tensor) for name, tensor in found.items())


def test_it_answers_as_the_source_with_silu_in_its_heads(network, published, tmp_path):
    plain = network(pixel_values=IMAGES)
    wanted = with_silu(network)(pixel_values=IMAGES)
    assert (wanted.pred_boxes - plain.pred_boxes).abs().max() > 1e-3
    import_model(published, tmp_path / "out" / "model.safetensors")
    model = load_model(tmp_path / "out" / "model.safetensors")
    with torch.no_grad():
        logits, boxes = model.predict(IMAGES)
    assert (model.family, model.preset, model.spec.input_hw) == ("d_fine", IMPORTED, (640, 640))
    assert model.spec.class_names == tuple(COCO)
    torch.testing.assert_close(logits, wanted.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(boxes, wanted.pred_boxes, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.lateral_convs.0.conv.weight": None}, r"1 of its \d+ tensors are missing"),
        ({"decoder.reg_scale": None}, r"decoder\.reg_scale is missing; bring the whole file"),
        ({"decoder.dec_score_head.9.bias": torch.ones(ROWS)}, "1 tensors have no place in RT-DE"),
        ({"keypoints.bias": torch.ones(1)}, r"keypoints\.bias is no tensor of RT-DETRv4"),
        ({"encoder.feature_projector.0.weight": None}, "tells RT-DETRv4 from D-FINE and DEIM"),
        ({"backbone.stem.stem4.conv.weight": torch.ones(7, 16, 1, 1)}, "a stem of 7 channels"),
        ({"backbone.stem.stem4.conv.weight": None}, "neither RT-DETRv4's nor those of a det"),
        ({"backbone.backbone.register_token": torch.ones(1)}, "ECDet.*no family here has its"),
    ],
)
def test_what_does_not_fit_is_one_line(published, change, message):
    tensors = load_file(published) | change
    save_file({name: t for name, t in tensors.items() if t is not None}, published)
    with pytest.raises(ArtifactError, match=message) as e:
        read_file(published)
    assert "\n" not in str(e.value)


def test_other_classes_are_named_by_the_config_beside(published):
    tensors = load_file(published)
    heads = [n for n in tensors if "score_head" in n] + ["decoder.denoising_class_embed.weight"]
    tensors |= {n: tensors[n][: 2 + (n == heads[-1])].clone() for n in heads}
    save_file(tensors, published)
    with pytest.raises(ArtifactError, match="has 2 classes, and only COCO's 80 are known"):
        read_file(published)
    config = published.with_name("config.json")
    config.write_text(json.dumps({"id2label": {"0": "car", "1": "truck"}}))
    assert read_file(published).spec.class_names == ("car", "truck")
    config.write_text(json.dumps({"id2label": {"0": "car"}}))
    with pytest.raises(ArtifactError, match=r"id2label names 1 classes, rtv4.* has 2"):
        read_file(published)


def test_half_of_a_download_is_one_line(published):
    published.write_bytes(published.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="perhaps half of a download"):
        read_file(published)

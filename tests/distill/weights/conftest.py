"""Folders of random detectors, as transformers writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LABELS = {0: "N/A", 1: "person", 2: "car", 3: "N/A", 4: "bus"}
CONVOLUTIONS: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_indices": [2, 3, 4],
}
ATTENTION: dict[str, Any] = {
    **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
    **{f"{part}_ffn_dim": 48 for part in ("encoder", "decoder")},
    "decoder_layers": 2,
    "num_queries": 12,
}
REAL_TIME: dict[str, Any] = {
    **ATTENTION,
    "encoder_in_channels": [16, 24, 32],
    "encoder_hidden_dim": 32,
    "decoder_in_channels": [32, 32, 32],
    "d_model": 32,
}


def _backbone(kind: str, **values: object) -> dict[str, Any]:
    return {"backbone_config": {"model_type": kind, **CONVOLUTIONS, **values}}


HGNET: dict[str, Any] = {
    "backbone_config": {
        "model_type": "hgnet_v2",
        "stem_channels": [3, 8, 8],
        "stage_in_channels": [8, 16, 16, 24],
        "stage_mid_channels": [8, 8, 12, 16],
        "stage_out_channels": [16, 16, 24, 32],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [2, 2, 2, 2],
        "stage_downsample": [False, True, True, True],
        "stage_light_block": [False, False, True, True],
        "stage_kernel_size": [3, 3, 5, 5],
        "hidden_sizes": [16, 16, 24, 32],
        "depths": [1, 1, 1, 1],
        "out_indices": [2, 3, 4],
        "use_learnable_affine_block": True,
    }
}
FINE: dict[str, Any] = {**REAL_TIME, **HGNET, "decoder_n_points": [3, 6, 3]}
DEFORMABLE: dict[str, Any] = {
    **ATTENTION,
    **_backbone("resnet"),
    "encoder_layers": 1,
    "d_model": 32,
    "num_feature_levels": 4,
    "two_stage_num_proposals": 12,
}
DAB: dict[str, Any] = {
    **ATTENTION,
    **_backbone("resnet", out_indices=[4]),
    "encoder_layers": 1,
    "hidden_size": 32,
}

SINGLE: dict[str, Any] = {
    **ATTENTION,
    **_backbone("resnet", out_indices=[4]),
    "encoder_layers": 1,
    "d_model": 32,
}
PATCHES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": [64, 96],
    "num_detection_tokens": 12,
}
WINDOWED: dict[str, Any] = {
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_ffn_dim": 48,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2,
    "decoder_n_points": 2,
    "num_queries": 6,
    "group_detr": 2,
    "c2f_num_blocks": 1,
}
VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "patch_size": 16,
    "num_windows": 4,
}
RF: dict[str, Any] = {
    "backbone_config": {
        "model_type": "rf_detr_dinov2",
        **VIT,
        "image_size": 64,
        "num_windows": 2,
        "out_indices": [1, 2, 3],
    }
}
LW: dict[str, Any] = {
    "backbone_config": {
        "model_type": "lw_detr_vit",
        **VIT,
        "image_size": 64,
        "pretrain_image_size": 64,
        "window_block_indices": [0, 2],
        "out_indices": [1, 2],
    },
    "projector_scale_factors": [1.0],
    "num_feature_levels": 1,
}

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rt_detr": ("RTDetr", "RTDetr", {**REAL_TIME, **_backbone("rt_detr_resnet")}),
    "rt_detr-larger": (
        "RTDetr",
        "RTDetr",
        {
            **REAL_TIME,
            "encoder_hidden_dim": 48,
            "decoder_in_channels": [48] * 3,
            **_backbone("rt_detr_resnet", depths=[1, 2, 1, 1]),
            "decoder_layers": 3,
        },
    ),
    "rt_detr_v2": ("RTDetrV2", "RTDetr", {**REAL_TIME, **_backbone("rt_detr_resnet")}),
    "rt_detr_v2-larger": (
        "RTDetrV2",
        "RTDetr",
        {
            **REAL_TIME,
            **_backbone("rt_detr_resnet", depths=[1, 2, 1, 1]),
            "decoder_offset_scale": 0.4,
            "decoder_method": "discrete",
        },
    ),
    "d_fine": ("DFine", "RTDetr", FINE),
    "d_fine-larger": (
        "DFine",
        "RTDetr",
        {**FINE, "decoder_layers": 3, "max_num_bins": 16, "hidden_expansion": 0.5},
    ),
    "deimv2": ("Deimv2", "RTDetr", {**FINE, "encoder_ffn_dim": 40}),
    "deimv2-larger": ("Deimv2", "RTDetr", {**FINE, "decoder_layers": 3, "depth_mult": 1.0}),
    "dab_detr": ("DabDetr", "ConditionalDetr", DAB),
    "dab_detr-larger": (
        "DabDetr",
        "ConditionalDetr",
        {**DAB, "decoder_layers": 3, "num_patterns": 2, "keep_query_pos": True},
    ),
    "deformable_detr": ("DeformableDetr", "DeformableDetr", DEFORMABLE),
    "deformable_detr-larger": (
        "DeformableDetr",
        "DeformableDetr",
        {**DEFORMABLE, "decoder_layers": 3, "with_box_refine": True, "two_stage": True},
    ),
    "detr": ("Detr", "Detr", SINGLE),
    "detr-larger": ("Detr", "Detr", {**SINGLE, "decoder_layers": 3, "auxiliary_loss": True}),
    "conditional_detr": ("ConditionalDetr", "ConditionalDetr", SINGLE),
    "conditional_detr-larger": (
        "ConditionalDetr",
        "ConditionalDetr",
        {**SINGLE, "decoder_layers": 3, "encoder_layers": 2},
    ),
    "yolos": ("Yolos", "Yolos", PATCHES),
    "yolos-larger": (
        "Yolos",
        "Yolos",
        {**PATCHES, "num_hidden_layers": 3, "image_size": [32, 48], "num_detection_tokens": 8},
    ),
    "rf_detr": ("RfDetr", "RfDetr", WINDOWED | RF),
    "rf_detr-larger": (
        "RfDetr",
        "RfDetr",
        WINDOWED | RF | {"decoder_layers": 3, "c2f_num_blocks": 2, "num_queries": 8},
    ),
    "lw_detr": ("LwDetr", "DeformableDetr", WINDOWED | LW),
    "lw_detr-larger": (
        "LwDetr",
        "DeformableDetr",
        WINDOWED
        | LW
        | {"decoder_layers": 3, "projector_scale_factors": [2.0, 0.5], "num_feature_levels": 2},
    ),
}
"""Of each family two sizes: its class, its image processor's class and the options."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A family and size of `KINDS`."""
    return str(request.param)


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[..., Path]:
    """Writes a random detector with transformers' save_pretrained; returns the folder."""

    def write(kind: str = "rt_detr", **values: Any) -> Path:
        name, processor, options = KINDS[kind]
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**{**options, "id2label": LABELS, **values})
        network = getattr(transformers, f"{name}ForObjectDetection")(config).eval()
        _stir(network)
        folder = tmp_path / kind
        network.save_pretrained(folder)
        size = {"height": 64, "width": 96}
        getattr(transformers, f"{processor}ImageProcessor")(size=size).save_pretrained(folder)
        return folder

    return write


@torch.no_grad()
def _stir(network: torch.nn.Module) -> None:
    """Give everything that starts alike values of its own."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            tensor.add_(0.1 * torch.randn_like(tensor))


@pytest.fixture
def rewrite() -> Callable[..., None]:
    """Changes keys of a JSON file; None removes one."""

    def change(path: Path, **changes: object) -> None:
        values = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))

    return change

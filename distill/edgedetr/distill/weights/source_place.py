"""Where a model that comes from elsewhere lies: by a name of the hub, or by its path."""

from __future__ import annotations

from pathlib import Path

from edgedetr.distill.networks.torchvision_model import FAMILIES
from edgedetr.distill.weights.hub_errors import from_hub
from edgedetr.distill.weights.resnet_names import BACKBONES, hub_name
from edgedetr.distill.weights.source_config import CONFIG
from edgedetr.distill.weights.source_preprocessor import PREPROCESSOR
from edgedetr.distill.weights.source_tensors import INDEX, PICKLES, WEIGHTS
from edgedetr.distill.weights.torchvision_detector import detector_file, detector_name
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.hub import TORCHVISION, cache_folder, is_foreign

NEEDED = (CONFIG, PREPROCESSOR, WEIGHTS, INDEX, "model-*.safetensors")
"""The files of a repository that are downloaded; never a pickle."""


def source_place(source: str) -> Path:
    """Return the folder or safetensors file of a model; one of the hub is downloaded once.

    What a user brought below ``hub`` in the cache, as ``OWNER/NAME``, needs no network, and neither
    does what was downloaded before.

    Raises:
        ArtifactError: If there is no such folder, and no such name of the hub can be had.
    """
    published = detector_name(source)
    if published is not None:
        return detector_file(published)
    source = hub_name(source)
    path = Path(source)
    if path.is_dir() or (path.is_file() and path.suffix == ".safetensors"):
        return path
    brought = cache_folder("hub") / source
    if source.startswith(TORCHVISION) and not path.exists():
        raise ArtifactError(
            f"{source} is no model of torchvision that can be imported; those are "
            f"{', '.join([*FAMILIES, *BACKBONES])}"
        )
    if is_foreign(source) or (source.startswith("timm/") and not path.exists()):
        return brought if (brought / CONFIG).is_file() else _downloaded(source, brought)
    if path.suffix in PICKLES:
        raise ArtifactError(
            f"{source} is a pickle, which may run code; where you trust it, load it with "
            "transformers and write it with model.save_pretrained(FOLDER), or write its tensors as "
            "safetensors (docs/weights.md has the line)"
        )
    found = "is a file" if path.exists() else "does not exist"
    raise ArtifactError(
        f"{source} {found}; wanted a folder with {CONFIG}, {PREPROCESSOR} and {WEIGHTS}, a "
        "safetensors file, a name of the hub like ustc-community/dfine-large-coco, or one of a "
        "backbone like resnet50"
    )


def _downloaded(name: str, brought: Path) -> Path:
    """Download what is `NEEDED` of a repository, unless the hub's cache has it."""
    from huggingface_hub import snapshot_download

    processor = "" if name.startswith("timm/") else f", {PREPROCESSOR}"
    needed = f"{CONFIG}{processor} and {WEIGHTS} of https://huggingface.co/{name}"
    with from_hub(name, f"bring {needed} and put them into {brought}"):
        return Path(snapshot_download(name, allow_patterns=list(NEEDED)))

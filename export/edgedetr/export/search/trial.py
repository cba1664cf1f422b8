"""Run one model after the other on the same frames and compare each with the first."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from scipy.special import stdtrit
from tqdm import tqdm

from edgedetr.calib.frames import choose_frames
from edgedetr.distill.data import data_module
from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.distill.labels.pictures import read_picture
from edgedetr.export.verify.compare import SPARE
from edgedetr.export.verify.figures import counted, figures_from_pairs
from edgedetr.export.verify.lost_share import ERROR_RATE, lost_share
from edgedetr.export.verify.matching import MARGIN, Rule, match
from edgedetr.graph.exact import exact_graph
from edgedetr.runtime.backends.onnxruntime import open_session
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import list_images
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

    from edgedetr.distill.data import Truth
    from edgedetr.export.verify.figures import Figures
    from edgedetr.export.verify.limits import Limits
    from edgedetr.export.verify.lost_share import LostShare
    from edgedetr.export.verify.matching import Pairs
    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.spec import ModelSpec

GROUPS = 6
"""How many groups of frames the jackknife leaves out, to bound a drop of AP."""
RULE = Rule()
"""The detections that must have a match: those with a score of 0.3 and more."""


class NothingToCompareError(DataError):
    """The reference has no detection in the frames, so that none could be lost."""


@dataclass(frozen=True, eq=False)
class Scenes:
    """Frames to measure on.

    Attributes:
        images: Their files.
        truths: Their labels; None where they have none.
    """

    images: tuple[Path, ...]
    truths: tuple[Truth, ...] | None = None

    def spread(self, count: int) -> Scenes:
        """Take at most ``count`` frames, evenly spread over all."""
        return self.among(choose_frames(self.images, count))

    def among(self, images: Iterable[Path]) -> Scenes:
        """Take the frames of some images."""
        chosen = set(images)
        kept = [i for i, image in enumerate(self.images) if image in chosen]
        truths = self.truths
        return Scenes(
            tuple(self.images[i] for i in kept),
            None if truths is None else tuple(truths[i] for i in kept),
        )


def labelled_scenes(root: Path, class_names: tuple[str, ...], kind: str | None = None) -> Scenes:
    """Open the validation split of a data set; all of it where it has no such split.

    Args:
        root: Its folder.
        class_names: The classes of the model.
        kind: Its format; None recognises it.

    Raises:
        DataError: If the folder or a label is missing or wrong.
    """
    module = data_module(kind, root)
    split = "val" if has_validation(root, kind) else "all"
    dataset = module.open_dataset(root, split, class_names)
    return Scenes(dataset.paths, dataset.truths)


def has_validation(root: Path, kind: str | None = None) -> bool:
    """Tell whether a data set has a validation split; takes what `labelled_scenes` does."""
    return "val" in data_module(kind, root).splits(root)


def unlabelled_scenes(folder: Path) -> Scenes:
    """Take every image of a folder; raises DataError where there is none."""
    return Scenes(tuple(list_images(folder)))


@dataclass(frozen=True)
class Effect:
    """The effect of a change of precision.

    Attributes:
        figures: How the detections compare with those of the reference.
        ap: COCO AP in per cent; None without labels.
        ap_drop: By how many points it is below the reference's; None without labels.
        pairs: The detections of each frame, paired with those of the reference.
        ap_drop_high: Upper bound of the drop at 95 % confidence; None without labels, or where it
            was not requested.
        known: Limits, and the share that is lost by them, where the pairs are given up.
    """

    figures: Figures
    ap: float | None = None
    ap_drop: float | None = None
    pairs: tuple[Pairs, ...] = ()
    ap_drop_high: float | None = None
    known: tuple[Limits, LostShare] | None = None

    def without_pairs(self, limits: Limits) -> Effect:
        """Keep the share that is lost by these limits alone.

        Pairs take half a KiB of memory for each frame, and a search keeps dozens of effects.
        """
        return replace(self, pairs=(), known=(limits, self.share(limits)))

    def share(self, limits: Limits) -> LostShare:
        """Bound the share of lost detections."""
        if self.known is not None:
            only, share = self.known
            if only != limits:
                raise ValueError(f"the pairs are gone; only the share by {only} is known")
            return share
        lost = [pairs.lost(limits) for pairs in self.pairs]
        return lost_share(lost, [pairs.compared for pairs in self.pairs])


class Trial:
    """Preprocessed frames, and the detections of the reference in them.

    The frames are preprocessed once, into a file: memory does not depend on their number. Models
    compute every Q/DQ pair and every FP16 node as it is written. Close it, or use it in a ``with``
    statement.

    Args:
        model: The reference.
        spec: Its contract.
        scenes: The frames.

    Attributes:
        ap: COCO AP of the reference in per cent; None without labels.
        counts: How many of its detections must have a match, in each frame.

    Raises:
        ArtifactError: If the model cannot be run, or its outputs are not finite.
        DataError: If an image cannot be read.
        NothingToCompareError: If the reference has no detection that could be lost.
    """

    def __init__(self, model: onnx.ModelProto, spec: ModelSpec, scenes: Scenes) -> None:
        self._spec, self._scenes = spec, scenes
        self._folder = tempfile.TemporaryDirectory()
        try:
            self._inputs, self._places = self._preprocessed()
            self._reference = self._detections(model, "FP32")
            self.ap = self._ap(self._reference)
            most = spec.max_detections
            self.counts = [int(RULE.counts(f, most).sum()) for f in self._reference]
            self._without: list[float] = []
            self._check_reference()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._scenes.images)

    def close(self) -> None:
        """Remove the file; a second call does nothing."""
        self._folder.cleanup()

    def effect(self, model: onnx.ModelProto, name: str, max_ap_drop: float | None = None) -> Effect:
        """Measure another model of the same classes and inputs.

        Args:
            model: The model.
            name: What the progress bar calls it.
            max_ap_drop: Bound the drop of AP where it is no larger than this; that takes as long as
                `GROUPS` measurements of AP.
        """
        found = self._detections(model, name)
        sure = ((_above(a), _above(b)) for a, b in zip(self._reference, found, strict=True))
        pairs = tuple(match(*both, RULE, self._spec.max_detections) for both in sure)
        figures = figures_from_pairs(pairs, len(self), non_finite=0)
        ap = self._ap(found)
        drop = None if ap is None or self.ap is None else self.ap - ap
        high = None
        if drop is not None and max_ap_drop is not None and drop <= max_ap_drop:
            high = drop + self._error_of_drop(found)
        return Effect(figures, ap, drop, pairs, high)

    def _error_of_drop(self, found: list[Detections]) -> float:
        """Return the distance of the upper bound of a drop of AP at 95 % confidence.

        The standard error is that of the jackknife, which leaves out one group of frames at a time
        (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11), times Student's
        t.
        """
        groups = min(GROUPS, len(self))
        if groups < 2:
            return 0.0
        if not self._without:
            self._without = [self._ap(self._reference, g) or 0.0 for g in range(groups)]
        drops = np.array([w - (self._ap(found, g) or 0.0) for g, w in enumerate(self._without)])
        error = np.sqrt((groups - 1) / groups * ((drops - drops.mean()) ** 2).sum())
        return float(stdtrit(groups - 1, 1 - ERROR_RATE) * error)

    def _preprocessed(self) -> tuple[NDArray[np.float32], list[Placement]]:
        preprocess = Preprocessor(self._spec)
        shape = (len(self), 3, *self._spec.input_hw)
        path = Path(self._folder.name) / "frames"
        inputs = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        images = tqdm(self._scenes.images, desc="frames", unit="frame", disable=None, leave=False)
        return inputs, [
            preprocess(read_picture(image), out) for image, out in zip(images, inputs, strict=True)
        ]

    def _detections(self, model: onnx.ModelProto, name: str) -> list[Detections]:
        """Run a model on all frames; the detections reach down to a score of 0."""
        path = Path(self._folder.name) / "model.onnx"
        onnx.save(exact_graph(model).model, path)
        session = open_session(path, self._spec, exact=True)
        spec = replace(self._spec, max_detections=self._spec.max_detections + SPARE)
        found = []
        frames = zip(self._inputs, self._places, strict=True)
        bar = tqdm(frames, name, len(self), unit="frame", disable=None, leave=False)
        for image, place in bar:
            session.images[0] = image
            logits, boxes = session.infer()
            found.append(postprocess(logits[0], boxes[0], place, spec, 0.0))
        session.close()
        return found

    def _ap(self, found: list[Detections], without: int | None = None) -> float | None:
        """Return COCO AP in per cent, of all frames or without one group of `GROUPS` of them."""
        truths, names = self._scenes.truths, self._spec.class_names
        if truths is None:
            return None
        kept = [i for i in range(len(self)) if without is None or i % GROUPS != without]
        best = [_first(found[i], self._spec.max_detections) for i in kept]
        return 100 * coco_ap([truths[i] for i in kept], best, names).ap

    def _check_reference(self) -> None:
        """Raise an error where nothing could be lost."""
        if self.ap is not None and not self.ap > 0:
            raise NothingToCompareError(
                f"the model has AP {self.ap:.1f} on {counted(len(self), 'labelled frame')}, which "
                "INT8 cannot lower; give frames with objects of its classes"
            )
        if self.ap is None and not any(len(_above(found)) for found in self._reference):
            raise NothingToCompareError(
                f"the model has no detection above {RULE.threshold:g} in "
                f"{counted(len(self), 'frame')}, so that nothing can be compared; give frames with "
                "objects of its classes"
            )


def _above(found: Detections) -> Detections:
    """Keep what can match a detection that counts."""
    return _first(found, int((found.scores >= RULE.threshold - MARGIN).sum()))


def _first(found: Detections, count: int) -> Detections:
    return Detections(found.boxes[:count], found.scores[:count], found.labels[:count])

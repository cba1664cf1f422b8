"""Settings of one training run, read from TOML and checked at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgedetr.distill.augmentations import augmentations_of
from edgedetr.distill.config_ranges import (
    MOST_SEED,
    MOST_STEPS,
    MOST_WEIGHT,
    check_range,
    check_sides,
)
from edgedetr.distill.methods import method, needs_foundation
from edgedetr.distill.optimizer_config import LATER, OptimizerConfig, ScheduleConfig
from edgedetr.distill.qat_config import QatConfig
from edgedetr.distill.step_config import StepConfig, check_passes
from edgedetr.distill.teacher_config import (
    TeacherCacheConfig,
    TeacherConfig,
    TeacherInputConfig,
    check_class_map,
    check_normalization,
    names_of,
)
from edgedetr.distill.tune_config import TuneConfig
from edgedetr.runtime.errors import SettingsError
from edgedetr.runtime.settings import load_settings, settings_from_dict

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable


MOST_WORKERS = 256


@dataclass(frozen=True)
class DataConfig:
    """Where the frames come from.

    Attributes:
        root: Folder of the data set.
        classes: The classes to train.
        untrained: What objects of other classes are: ``background``, as COCO's evaluation has them,
            or ``ignored`` areas. Whatever it is, a crowd of a trained class is ignored, and so are
            KITTI's DontCare areas and neutral pairs: Van beside Car, Person_sitting beside
            Pedestrian.
        format: File name under ``edgedetr.distill.data``; ``auto`` looks at the folder.
        train_split: Split to train on.
        val_split: Split to evaluate on.
        augment: How training pictures are changed: files of ``edgedetr.distill.augmentations`` in
            the order of their use, joined by ``+``, such as ``mosaic+mixup+flip``; ``strong`` is
            ``flip+zoom+light``.
        augment_on_device: Whether the training device changes the pixels, a uint8 batch at once,
            in what stands in ``augment`` behind the last that joins frames or pads them.
        no_aug_epochs: The last epochs, which only mirror, and only where ``augment`` does, at the
            student's own size.
        repeat_threshold: Images of a class that fewer than this share of the images hold are
            repeated, see `edgedetr.distill.training.sampling.repeat_factors`; 0 repeats none.
        scales: Multi-scale training: shares of the sides of the student's input of which each batch
            gets one.
        rectangular: Sizes (H, W) of which each image gets the one nearest to its own shape, and a
            batch holds one; the student is evaluated at its own. Empty trains at that size too.
        workers: Processes that load images; 0 loads in the training process.
        most_skipped: Training pictures that may turn out to be broken while the run lasts, and are
            skipped, each with a line; one more ends it.
        unlabelled: Folder of frames without labels, in which only the teacher teaches; empty is
            none.
        unlabelled_share: Their share of each batch, in (0, 1).
        unlabelled_score: From which score on the teacher's detections stand for their labels in
            distillation losses.
    """

    root: str
    classes: tuple[str, ...] = ("Car", "Pedestrian", "Cyclist")
    untrained: Literal["background", "ignored"] = "background"
    format: str = "kitti"
    train_split: str = "train"
    val_split: str = "val"
    augment: str = "flip"
    augment_on_device: bool = False
    no_aug_epochs: int = 0
    repeat_threshold: float = 0.0
    scales: tuple[float, ...] = (1.0,)
    rectangular: tuple[tuple[int, int], ...] = ()
    workers: int = 0
    most_skipped: int = 10
    unlabelled: str = ""
    unlabelled_share: float = 0.25
    unlabelled_score: float = 0.5

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(
                f"classes must be different names, at least one, got {list(self.classes)}"
            )
        for name in self.classes:
            if not name or name != name.strip() or not name.isprintable():
                raise ValueError(
                    f"classes holds {name!r}; wanted a name of printable characters, without "
                    "spaces around it"
                )
        if not self.root:
            raise ValueError("root must be the folder of a data set, got an empty name")
        for split in (self.train_split, self.val_split):
            if not split.strip() or not set(split).isdisjoint("/\\"):
                raise ValueError(f"train_split and val_split must be names, got {split!r}")
        check_range("workers", self.workers, 0, MOST_WORKERS)
        check_range("most_skipped", self.most_skipped, 0, MOST_STEPS)
        self._check_sampling()
        if not (0 < self.unlabelled_share < 1 and 0 < self.unlabelled_score < 1):
            raise ValueError(
                "unlabelled_share and unlabelled_score must lie in (0, 1), got "
                f"{self.unlabelled_share} and {self.unlabelled_score}"
            )

    def _check_sampling(self) -> None:
        check_range("no_aug_epochs", self.no_aug_epochs, 0, MOST_STEPS)
        augmentations_of(self.augment)
        if not 0 <= self.repeat_threshold <= 1:
            raise ValueError(
                f"repeat_threshold must lie in [0, 1], got {self.repeat_threshold}; LVIS has 0.001"
            )
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise ValueError(f"scales must lie in [0.1, 10], at least one, got {self.scales}")
        for hw in self.rectangular:
            check_sides("rectangular", hw)
        if self.rectangular and self.unlabelled:
            raise ValueError("unlabelled frames have one size: set unlabelled or rectangular")


@dataclass(frozen=True)
class StudentConfig:
    """The model to train.

    Attributes:
        family: File name under ``edgedetr.distill.detectors``.
        preset: Size within the family; ``imported`` is that of a foreign detector in ``init``.
        input_hw: Height and width of the network's input in pixels, multiples of 32.
        resize: How frames get to that size, see `ModelSpec`.
        mean: What each channel (R, G, B) of pixels in [0, 1] loses; unset takes what the weights
            that it starts from were trained with, and 0 where it starts fresh.
        std: What it is divided by then; likewise, and 1.
        init: Checkpoint of the same family and preset to start from, or weights of such a detector
            in transformers' naming: a ``.safetensors`` file, a folder or a hub repository; empty
            starts fresh.
        backbone_weights: Pre-trained weights of the backbone, whose batch norms they freeze: a
            ``.safetensors`` file, a repository of the Hugging Face hub such as
            ``timm/resnet50d.a1_in1k``, or torchvision's ``resnet50``; empty starts fresh.
        inherit: Whether to start from evenly spaced channels of the teacher's tensors, see
            `edgedetr.distill.weights.inheritance`.
    """

    family: str = "d_fine"
    preset: str = "edge-tiny"
    input_hw: tuple[int, int] = (96, 320)
    resize: Literal["letterbox", "stretch"] = "stretch"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    init: str = ""
    backbone_weights: str = ""
    inherit: bool = False

    def __post_init__(self) -> None:
        check_sides("input_hw", self.input_hw)
        check_normalization(self.mean, self.std)
        if self.preset == "imported" and not self.init:
            raise ValueError('preset = "imported" needs the detector that is imported, in init')
        if self.init and self.backbone_weights:
            raise ValueError("set init, which has a backbone, or backbone_weights; not both")
        if self.inherit and (self.init or self.backbone_weights):
            raise ValueError(
                "inherit takes the teacher's weights; set neither init nor backbone_weights"
            )


@dataclass(frozen=True)
class MethodConfig:
    """One distillation method of a run.

    Attributes:
        name: File name under ``edgedetr.distill.methods``.
        weight: Factor of all its terms.
        share: What each of its terms is held to, as a share of the detection loss's gradient at
            the student's memory; 0 leaves the terms at their own weights.
        settings: The method's own settings.
    """

    name: str
    weight: float
    share: float
    settings: object


@dataclass(frozen=True)
class DistillConfig:
    """What a run needs to be repeated.

    Attributes:
        data: The data set.
        student: The model to train.
        optimizer: How it is trained.
        qat: Whether it is trained for INT8.
        train: How a step computes.
        teacher: Checkpoint of the teacher, a folder of transformers or a name of the hub; empty for
            a method that needs none.
        teacher_input: Its input, where it is to be another than it was trained with.
        teacher_cache: Its answers on disk.
        foundation: Vision backbone of transformers whose features the method ``foundation``
            teaches: a folder, or a repository of the Hugging Face hub.
        class_map: The teacher's name of each class that it names otherwise, or a list of names:
            ``Car = ["car", "truck"]`` takes both as Car, ``Cyclist = []`` says that the teacher
            does not know the class, so that no class loss teaches it. A start from weights takes
            its class rows by the same names.
        methods: File names under ``edgedetr.distill.methods``; their losses add up.
        method: Settings of each method by its name: its own, and ``weight`` and ``share`` of
            `MethodConfig`. Those of a method that is not in ``methods`` wait for it.
        epochs: Passes over the training split.
        batch_size: Images a step, over all devices.
        eval_every: Epochs between evaluations; the last epoch is always evaluated.
        seed: Of weights, order, augmentation and noise.
        best_metric: ``ap`` or ``ap50`` keeps the evaluated student that is best by it; empty keeps
            the last.
        patience: Evaluations in a row without a better one that end the run; 0 for no end.
        save_every_steps: Steps between states within an epoch, beside that after each; 0 for none.
        keep_states: How many of the newest states are kept while the run lasts.
        track: Trackers beside TensorBoard, ``mlflow`` or ``wandb``, which must be installed.
        tune: What ``edgedetr distill tune`` varies; a run does without.
    """

    data: DataConfig
    student: StudentConfig = StudentConfig()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    qat: QatConfig = field(default_factory=QatConfig)
    train: StepConfig = field(default_factory=StepConfig)
    teacher: str = ""
    teacher_input: TeacherInputConfig = field(default_factory=TeacherInputConfig)
    teacher_cache: TeacherCacheConfig = field(default_factory=TeacherCacheConfig)
    foundation: str = ""
    class_map: dict[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = ("none",)
    method: dict[str, Any] = field(default_factory=dict)
    epochs: int = 50
    batch_size: int = 16
    eval_every: int = 5
    seed: int = 0
    best_metric: Literal["", "ap", "ap50"] = ""
    patience: int = 0
    save_every_steps: int = 0
    keep_states: int = 1
    track: tuple[Literal["mlflow", "wandb"], ...] = ()
    tune: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        self._check_schedule()
        check_range("seed", self.seed, 0, MOST_SEED)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods must be different names, at least one, got {self.methods}")
        for name in {*self.methods, *self.method}:
            self.method_config(name)
        needy = [name for name in self.methods if method(name).NEEDS_TEACHER]
        if needy and not self.teacher:
            raise ValueError(f"method {needy[0]!r} needs a teacher checkpoint")
        if self.teacher_cache.path and not self.teacher:
            raise ValueError("teacher_cache.path needs a teacher checkpoint")
        self._check_foundation()
        if self.student.inherit and not self.teacher:
            raise ValueError("student.inherit needs a teacher checkpoint")
        if self.qat.enabled and not self.student.init:
            raise ValueError(
                "qat.enabled fine-tunes a trained student; name its checkpoint in student.init"
            )
        check_class_map(self.class_map, self.data.classes)
        held = [config.name for config in self.method_configs if config.share > 0]
        check_passes(self.train, self.batch_size, held)

    def _check_schedule(self) -> None:
        for name in ("epochs", "batch_size", "eval_every", "keep_states"):
            check_range(name, getattr(self, name), 1, MOST_STEPS)
        for name in ("patience", "save_every_steps"):
            check_range(name, getattr(self, name), 0, MOST_STEPS)
        if self.patience and not self.best_metric:
            raise ValueError('patience needs best_metric: set it to "ap" or "ap50"')

    def _check_foundation(self) -> None:
        """Refuse a method without its foundation, and frames that nothing teaches."""
        learns = needs_foundation(self.methods)
        if learns and not self.foundation:
            raise ValueError("method 'foundation' needs foundation, its backbone")
        if self.data.unlabelled:
            if not learns and not any(method(name).NEEDS_TEACHER for name in self.methods):
                raise ValueError("data.unlabelled needs a method with a teacher, or 'foundation'")
            check_range("batch_size with data.unlabelled", self.batch_size, 2, MOST_STEPS)

    @property
    def teacher_config(self) -> TeacherConfig:
        """The section of the teacher."""
        names = names_of(self.class_map, self.data.classes)
        return TeacherConfig(
            self.teacher, names, self.teacher_input, self.foundation, self.teacher_cache
        )

    @property
    def schedule(self) -> ScheduleConfig:
        """The section of the training loop."""
        return ScheduleConfig(**{f.name: getattr(self, f.name) for f in fields(ScheduleConfig)})

    @property
    def method_configs(self) -> tuple[MethodConfig, ...]:
        """The section of the objective: the methods of the run with their settings."""
        return tuple(self.method_config(name) for name in self.methods)

    @property
    def weights(self) -> dict[str, str]:
        """The files of weights that the run starts from, by setting; empty ones are not used."""
        return {
            "teacher": self.teacher,
            "student.init": self.student.init,
            "student.backbone_weights": self.student.backbone_weights,
            **({"foundation": self.foundation} if self.foundation else {}),
        }

    def record(self) -> dict[str, Any]:
        """Return the settings as plain values, to be kept with a run and compared.

        What a run does without, what is at its default in `_LATER` and who follows the run are
        left out.
        """
        values = asdict(self)
        del values["track"], values["tune"]
        if not self.qat.enabled:
            del values["qat"]
        if self.train == StepConfig():
            del values["train"]
        defaults = asdict(DistillConfig(DataConfig(self.data.root)))
        for section, names in _LATER.items():
            table, default = (x[section] if section else x for x in (values, defaults))
            for name in names:
                if table[name] == default[name]:
                    del table[name]
        return values

    def method_config(self, name: str) -> MethodConfig:
        """Return one method's settings, checked."""
        given = self.method.get(name, {})
        if not isinstance(given, dict):
            raise ValueError(f"method.{name} must be a table, got {given!r}")  # noqa: TRY004 - a value
        for key, value in given.items():
            if _is_number(value) and not 0 <= value <= MOST_WEIGHT:
                raise ValueError(f"method.{name}.{key} must be a number of at least 0, got {value}")
        factors = {key: given.get(key, default) for key, default in _FACTORS.items()}
        for key, value in factors.items():
            if not _is_number(value):
                raise ValueError(f"method.{name}.{key} must be a number of at least 0, got {value}")
        values = {key: value for key, value in given.items() if key not in factors}
        kind = method(name).Settings
        settings = settings_from_dict(kind, values, f"[method.{name}]")
        return MethodConfig(name, float(factors["weight"]), float(factors["share"]), settings)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_LATER = {
    "": (
        *("teacher_input", "teacher_cache", "foundation"),
        *("best_metric", "patience", "save_every_steps", "keep_states"),
    ),
    "data": (
        *("no_aug_epochs", "repeat_threshold", "scales", "rectangular"),
        *("unlabelled", "unlabelled_share", "unlabelled_score", "most_skipped"),
        *("augment_on_device",),
    ),
    "student": ("mean", "std"),
    "optimizer": LATER,
}
"""Settings that a record leaves out at their default, by section: older runs were without them."""

_FACTORS = {"weight": 1.0, "share": 0.0}


def load_config(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> DistillConfig:
    """Read a run's settings.

    Raises:
        SettingsError: If the file is missing, a key is unknown or a value is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise SettingsError(f"no config {path}; see distill/configs for some")
    return load_settings(DistillConfig, path, overrides)

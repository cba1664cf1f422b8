"""The distillation loss of a run: the terms of each method, weighted or held to a share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from typing_extensions import override

from edgedetr.distill.methods import method, needs_foundation, supported_pairs
from edgedetr.distill.training.gradient_balance import Balance
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedetr.distill.config import MethodConfig
    from edgedetr.distill.methods import DistillationMethod
    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch, Losses
    from edgedetr.distill.weights.foundation import Foundation


class Distillation(nn.Module):
    """Several methods at once; a term is named ``<method>_<term>``.

    Args:
        methods: The methods by name.
        weights: Factor of each method.
        shares: The share of the detection loss's gradient that each term of a method is held to;
            methods that are not named keep their weights.
    """

    def __init__(
        self,
        methods: Mapping[str, DistillationMethod],
        weights: Mapping[str, float],
        shares: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.methods = nn.ModuleDict(methods)
        self.weights = dict(weights)
        self.balance = Balance(
            {f"{n}_{term}": share for n, share in shares.items() for term in methods[n].terms}
        )

    @override
    def forward(self, batch: Batch, detection: Losses) -> dict[str, Tensor]:
        """Return every term of every method, ready to be summed.

        Args:
            batch: What the methods see.
            detection: The terms of the detection loss on the same batch.
        """
        terms = {
            f"{name}_{term}": self.weights[name] * value
            for name, module in self.methods.items()
            for term, value in module(batch).items()
        }
        balanced: dict[str, Tensor] = self.balance(detection, terms, batch.memory.tensors())
        return balanced

    @property
    def teaches(self) -> bool:
        """Whether any method has a loss."""
        return any(module.terms for module in self.methods.values())

    def fit(self, batches: Sequence[Batch[Any, Any]]) -> None:
        """Set the adapters of every method, see `DistillationMethod.fit`."""
        for module in self.methods.values():
            module.fit(batches)  # type: ignore[operator]


def distillation_of(
    configs: Sequence[MethodConfig],
    student: Model,
    teacher: Model | None,
    foundation: Foundation | None = None,
) -> Distillation:
    """Build the methods of a run; one of foundations has the foundation for its teacher.

    Raises:
        UsageError: If a method does not take this pair of families; names those that it takes.
    """
    methods = {}
    for config in configs:
        module = method(config.name)
        if needs_foundation([config.name]):
            methods[config.name] = module.build(config.settings, student, foundation)
            continue
        if teacher is not None and not module.supports(student.module, teacher.module):
            raise UsageError(_refusal(config.name, student.family, teacher.family))
        methods[config.name] = module.build(config.settings, student, teacher)
    return Distillation(
        methods,
        {c.name: c.weight for c in configs},
        {c.name: c.share for c in configs if c.share > 0},
    )


def needs_teacher(configs: Sequence[MethodConfig]) -> bool:
    """Tell whether a method of a run needs the teacher's memory."""
    return any(method(config.name).NEEDS_TEACHER for config in configs)


def _refusal(name: str, student: str, teacher: str) -> str:
    teachers_of: dict[str, list[str]] = {}
    for s, t in supported_pairs(name):
        teachers_of.setdefault(s, []).append(t)
    by_teachers: dict[str, list[str]] = {}
    for s, teachers in teachers_of.items():
        by_teachers.setdefault(", ".join(teachers), []).append(s)
    pairs = "; ".join(f"{', '.join(s)} with {t}" for t, s in by_teachers.items())
    return (
        f"method {name!r} does not support a {student} student with a {teacher} teacher; it "
        f"supports {pairs}"
    )

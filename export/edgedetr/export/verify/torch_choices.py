"""Read and replace the choices of the k best that a PyTorch network makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from edgedetr.export.verify.choices import Choice, ChoiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray


class TorchChoices(TorchFunctionMode):
    """Notes each ``topk`` that runs inside the block, or replaces its result.

    Attributes:
        made: The choices so far.
    """

    def __init__(self, forced: Sequence[Choice] = ()) -> None:
        super().__init__()
        self.made: list[Choice] = []
        self._forced = forced

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func not in {torch.topk, torch.Tensor.topk}:
            return found
        scores, indices = args[0], found.indices
        if self._forced:
            indices = torch.from_numpy(_next(self._forced, len(self.made), tuple(indices.shape)))
            dim = kwargs.get("dim", -1) if kwargs else -1
            dim = args[2] if len(args) > 2 else dim
            found = type(found)((scores.gather(dim, indices), indices))
        self.made.append(Choice(scores.numpy().copy(), indices.numpy().copy()))
        return found


def _next(forced: Sequence[Choice], count: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    if count >= len(forced) or forced[count].indices.shape != shape:
        raise ChoiceError
    return forced[count].indices

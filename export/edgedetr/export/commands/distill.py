"""What ``edgedetr distill`` takes from this stage: calibration, to train a student for INT8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.distill.model import Model
    from edgedetr.distill.networks.fake_quantization import Quantization


def calibrated(
    model: Model, frames: Iterable[NDArray[np.uint8]], include: str, exclude: str
) -> Quantization:
    """Calibrate a student where its export rounds; see `edgedetr.export.qat.calibrated`.

    Raises:
        UsageError: If a package of the extra ``export`` is not installed.
    """
    try:
        from edgedetr.export import qat
    except ModuleNotFoundError as error:
        raise UsageError(
            f"qat.enabled needs {error.name}, which is not installed: pip install "
            "'edgedetr[export]'"
        ) from error
    return qat.calibrated(model, frames, include, exclude)

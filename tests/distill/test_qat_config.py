import pytest

from edgedetr.distill.qat_config import QatConfig


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"found '\(': missing \)"):
        QatConfig(exclude="(")
    with pytest.raises(ValueError, match=r"qat\.frames must be at least 1"):
        QatConfig(frames=0)

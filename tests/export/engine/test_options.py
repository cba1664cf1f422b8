import pytest

from edgedetr.export.engine.options import EngineOptions, batch_from_text
from edgedetr.runtime.errors import UsageError


def test_a_batch_is_three_numbers():
    assert batch_from_text("1,4,8") == (1, 4, 8)
    for text in ("", "1,4", "1,4,x", "1,4,8,9"):
        with pytest.raises(UsageError, match="wanted three numbers MIN,OPT,MAX"):
            batch_from_text(text)


@pytest.mark.parametrize("batch", [(0, 1, 1), (2, 1, 4), (1, 5, 4)])
def test_the_numbers_of_a_batch_ascend_from_1(batch):
    with pytest.raises(UsageError, match=f"--batch {batch[0]},{batch[1]},{batch[2]}: wanted MIN"):
        EngineOptions(batch=batch)
    assert EngineOptions(batch=(1, 1, 1)).batch == (1, 1, 1)


@pytest.mark.parametrize("capability", ["8", "8.60", "sm_86", ""])
def test_a_compute_capability_is_two_numbers(capability):
    with pytest.raises(UsageError, match=r"wanted a number such as 8\.6"):
        EngineOptions(compute_capabilities=("8.6", capability))

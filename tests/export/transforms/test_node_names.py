"""Regular expressions of node names: found as `re` finds them, and ended where they would not."""

import re

import pytest

from edgedetr.export.transforms import node_names
from edgedetr.export.transforms.node_names import matching
from edgedetr.runtime.errors import UsageError

NAMES = ["/backbone/stem/conv1/Conv", "/encoder/fpn.0/conv/Conv", "/backbone/ü\n/Conv"]


@pytest.mark.parametrize(
    "pattern", ["backbone", "^/encoder", r"fpn\.\d+", "(stem|fpn).*Conv$", "ü"]
)
def test_it_finds_what_re_finds(pattern):
    found = [bool(re.search(pattern, name)) for name in NAMES]
    assert matching(pattern, NAMES, "--include") == found
    assert True in found


@pytest.mark.parametrize("pattern", ["(", "[", "\\", "a{1,99999999999999999999}", "(" * 5000])
def test_what_is_no_expression_is_refused(pattern):
    with pytest.raises(UsageError, match=r"--exclude .* is no regular expression"):
        matching(pattern, NAMES, "--exclude")


def test_an_expression_that_backtracks_for_ever_is_ended(monkeypatch):
    monkeypatch.setattr(node_names, "LIMIT_S", 0.5)
    with pytest.raises(UsageError, match=r"not searched within 0\.5 s; write it without a repet"):
        matching("(.*)*(.*)*(.*)*x$", ["/decoder" * 20], "--exclude")

"""Components are found by the names of their files."""

import sys

import pytest

from edgedetr.runtime.errors import UnknownNameError
from edgedetr.runtime.plugins import find, names


@pytest.fixture
def colours(tmp_path, monkeypatch):
    folder = tmp_path / "colours"
    folder.mkdir()
    for name in ("__init__", "red", "blue"):
        (folder / f"{name}.py").write_text(f"NAME = {name!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "colours"
    for name in [n for n in sys.modules if n.partition(".")[0] == "colours"]:
        del sys.modules[name]


def test_components_are_listed_without_importing_them(colours):
    assert names(colours) == ["blue", "red"]
    assert "colours.red" not in sys.modules


def test_a_component_is_imported_by_its_name(colours):
    assert find(colours, "red").NAME == "red"
    with pytest.raises(UnknownNameError, match="no 'rd' in colours; did you mean 'red'"):
        find(colours, "rd")

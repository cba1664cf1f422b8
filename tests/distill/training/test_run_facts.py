import pytest

from edgedetr.distill.training.run_facts import note_facts, read_facts
from edgedetr.runtime.errors import ArtifactError

CONFIG = {"methods": ["clock", "fgd"], "student": {"family": "d_fine", "preset": "edge-micro"}}


def test_a_run_that_goes_on_keeps_when_it_began(tmp_path, monkeypatch):
    monkeypatch.setattr("edgedetr.distill.training.run_facts.now", lambda: "2026-01-01T00:00:00")
    note_facts(tmp_path, CONFIG, "first", 10)
    monkeypatch.undo()
    found = note_facts(tmp_path, CONFIG, "second", 10)
    assert found == read_facts(tmp_path)
    assert (found.started, found.command) == ("2026-01-01T00:00:00", "second")
    assert (found.methods, found.student, found.teacher) == ("clock+fgd", "d_fine/edge-micro", "")


@pytest.mark.parametrize("text", ["", "[]", '{"steps": 3}', '{"config": 1, "command": "", '
                                  '"steps": 1, "started": ""}'])  # fmt: skip
def test_damaged_facts_are_one_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"run\.json: not the facts of a run"):
        read_facts(tmp_path)
    assert note_facts(tmp_path, CONFIG, "again", 10) == read_facts(tmp_path)

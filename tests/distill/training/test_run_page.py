import re
import time

import pytest

from edgedetr.distill.training import run_page
from edgedetr.distill.training.run_log import RunLog
from edgedetr.distill.training.run_page import RunPage
from edgedetr.pages.pictures import Picture

CONFIG = {
    "student": {"family": "d_fine", "preset": "edge-micro"},
    "methods": ["clock"],
    "teacher": "a <teacher>",
    "data": {"root": "data/synth"},
    "epochs": 2,
}


@pytest.fixture
def page(tmp_path):
    return RunPage(tmp_path, CONFIG, "edgedetr distill train x", 4)


def text(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


def tiles(folder):
    return re.findall(r"<strong>(.*?)</strong>", text(folder))


def test_a_page_shows_curves_by_term_and_asks_to_be_loaded_anew(page, tmp_path):
    log = RunLog(tmp_path, 0, 2, watchers=[page])
    assert tiles(tmp_path)[:2] == ["training", "0"]
    log.step(0, 0, {"loss": 3.0, "clock_lcmd": 1.0, "lr": 1e-3})
    log.step(1, 0, {"loss": 2.0, "clock_lcmd": 0.5, "lr": 2e-3})
    page.show([Picture("000004", "2 missed, 0 false alarms", "data:image/jpeg;base64,AAAA")])
    log.evaluation(2, 0, {"ap": 0.25, "ap50": 0.5})
    html = text(tmp_path)
    assert tiles(tmp_path) == ["training", "2", "25.0 %", "2"]
    assert 'http-equiv="refresh"' in html
    for name in ("clock_lcmd", "Learning rate", "AP on the validation split", "000004"):
        assert name in html
    assert "a &lt;teacher&gt;" in html
    assert "min left" in html
    assert not re.search(r'(?:src|href)="(?!data:)|<script|@import|url\(', html)
    log.close()
    assert tiles(tmp_path)[0] == "stopped"
    assert "refresh" not in text(tmp_path)
    page.finish()
    assert tiles(tmp_path)[0] == "finished"


def test_a_run_that_goes_on_has_its_curves(page, tmp_path):
    log = RunLog(tmp_path, 0, 2)
    log.step(0, 0, {"loss": 3.0, "lr": 1e-3})
    log.step(1, 0, {"loss": float("nan"), "lr": 1e-3})
    log.evaluation(2, 0, {"ap": float("nan"), "ap50": float("nan")})
    log.close()
    RunLog(tmp_path, 1, 2, watchers=[page]).close()
    assert tiles(tmp_path) == ["stopped", "2", "\N{EN DASH}", "3"]


def test_the_page_takes_at_most_a_hundredth_of_the_time(page, monkeypatch):
    """A step takes 0.1 s and a write 0.4 s: the page is written after each 80 s, not after 5."""
    now = [0.0]
    writes = []

    def write(*_):
        writes.append(now[0])
        now[0] += 0.4

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(run_page, "write_text", write)
    page._begun = 0.0
    page._write("training")
    for step in range(3000):
        now[0] += 0.1
        page.step(step, 0, {"loss": 1.0})
    assert len(writes) == 4
    assert 0.4 * len(writes) < 0.01 * now[0]

"""The comparison with peers: how ways are timed, what the page says, and that each task runs."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def peers(monkeypatch):
    """The folder of peers, importable as from a script beside it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from peers import detectors, evaluators, preprocessing, rows, section, training

    return {
        m.__name__.rpartition(".")[2]: m
        for m in (detectors, evaluators, preprocessing, rows, section, training)
    }


def test_ways_take_turns_and_are_compared_round_by_round(peers):
    calls = []
    ways = {"EdgeDETR": lambda: calls.append("ours"), "peer 1.0": lambda: calls.append("theirs")}
    ours, theirs = peers["rows"].timed("task", ways, {"peer 1.0": "same figures"}, rounds=3)
    assert calls == ["ours", "theirs"] * 5  # two rounds to warm up
    assert (ours.ratio, ours.low, ours.high) == (1, 1, 1)
    assert (theirs.task, theirs.note) == ("task", "same figures")
    assert theirs.low <= theirs.ratio <= theirs.high


def test_what_does_not_import_is_named_with_its_reason(peers):
    assert peers["rows"].missing("numpy") == ""
    why = peers["rows"].missing("no_such_detector")
    assert why == "does not import here: No module named 'no_such_detector'"
    row = peers["rows"].not_run("task", "no_such_detector", why)
    assert (row.ms, row.ratio, row.note) == (None, None, why)


def test_preprocessing_ends_at_the_same_pixels(peers):
    frame = np.random.default_rng(0).integers(0, 256, (75, 248, 3), np.uint8)
    ways, notes = peers["preprocessing"].ways(frame, (48, 160))
    assert len(ways) == 4
    for note in notes.values():
        assert float(note.split()[2]) < 0.01


def test_evaluators_agree(peers):
    truths, found = peers["evaluators"].material(6)
    truth, detections = peers["evaluators"].as_coco(truths, found)
    ours = peers["evaluators"].coco_ap(truths, found, peers["evaluators"].CLASSES).ap
    assert 0.2 < ours < 0.9
    assert peers["evaluators"].by_coco("pycocotools", truth, detections) == pytest.approx(ours)


def test_the_page_says_where_we_lose(peers):
    def row(way, ms, ratio, low, high, note=""):
        figures = {"ms": ms, "ratio": ratio, "low": low, "high": high}
        return {"task": "AP", "way": way, **figures, "note": note}

    rows = [
        row("EdgeDETR", 200.0, 1.0, 1.0, 1.0),
        row("fast 1", 50.0, 0.25, 0.2, 0.3, "equal"),
        row("slow 2", 400.0, 2.0, 1.9, 2.1),
        row("gone", None, None, None, None, "why"),
    ]
    machine = {"processor": "A CPU", "cores": 2}
    text = "\n".join(
        peers["section"].peers_section(
            {"rows": rows, "machine": machine, "command": "python x", "threads": 2, "rounds": 9}
        )
    )
    assert "| fast 1 | 50.00 | 0.25 (0.20 to 0.30) | equal |" in text
    assert "| gone | | | why |" in text
    assert text.endswith("- AP: fast 1 takes 0.25 of the time of EdgeDETR.\n")


def test_the_script_names_its_options(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["peer_ratios.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / "peer_ratios.py"), run_name="__main__")
    assert ended.value.code == 0
    assert "--images" in capsys.readouterr().out

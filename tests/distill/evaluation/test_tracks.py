"""HOTA, MOTA and IDF1 of files, beside TrackEval's where it is installed."""

import json
from typing import Any

import numpy as np
import pytest

from edgedetr.distill.evaluation.tracks import evaluate_tracks
from edgedetr.runtime.errors import DataError

LABEL = "{frame} {track} {kind} {truncated} {occluded} -10 {box} -1 -1 -1 -1000 -1000 -1000 -10"


def line(frame, track, kind, box, truncated=0, occluded=0):
    text = " ".join(f"{side:.2f}" for side in box)
    return LABEL.format(
        frame=frame, track=track, kind=kind, truncated=truncated, occluded=occluded, box=text
    )


def write(folder, name, lines):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "label_02", tmp_path / "found"


def test_a_track_that_changes_its_object_half_way(folders):
    """One car over four frames, followed by track 1 for two of them and by track 2 for two.

    All boxes hit at every overlap: DetA 1. Each hit has 2 hits of its pair among 4 of the car and
    2 of the track: AssA 2 / 4. One switch of 4 objects: MOTA 3/4. One track is the car: IDF1 2 / 4.
    """
    box = (10, 10, 60, 60)
    write(folders[0], "0000", [line(t, 7, "Car", box) for t in range(4)])
    write(folders[1], "0000", [line(t, 1 + t // 2, "Car", box) + " 0.9" for t in range(4)])
    scores = evaluate_tracks(*folders)
    car = scores.classes["Car"]
    assert (car.hota, car.det_a, car.ass_a) == pytest.approx((0.5**0.5, 1, 0.5))
    assert (car.mota, car.motp, car.idf1) == pytest.approx((0.75, 1, 0.5))
    assert (car.hits, car.misses, car.alarms, car.switches) == (4, 0, 0, 1)
    assert np.isnan(scores.classes["Pedestrian"].hota)
    assert scores.as_dict()["classes"]["Pedestrian"]["hota"] is None
    assert scores.sequences == ("0000",)


def test_sequences_add_up(folders):
    """Two cars: one is followed, the other is missed and a box lies beside it."""
    for name, found in (("0000", (10, 10, 60, 60)), ("0001", (200, 10, 260, 60))):
        write(folders[0], name, [line(0, 0, "Car", (10, 10, 60, 60))])
        write(folders[1], name, [line(0, 0, "Car", found)])
    write(folders[0], "0002", [line(0, 0, "Car", (10, 10, 60, 60))])
    car = evaluate_tracks(*folders).classes["Car"]
    assert (car.det_a, car.ass_a) == pytest.approx((1 / 3, 1))
    assert (car.mota, car.idf1) == pytest.approx((0.0, 0.5))
    assert "left out: 1" in " ".join(evaluate_tracks(*folders).notes)


def test_what_a_stream_wrote_is_read(folders, tmp_path):
    box = (10, 10, 60, 60)
    write(folders[0], "0003", [line(t, 7, "Car", box) for t in range(2)])
    found = {"class": "Car", "score": 0.9, "box": box}
    rows = [
        {"frame": "000000", "detections": [found | {"track": 4}, found | {"track": None}]},
        {"frame": "000001", "detections": [found | {"track": 4}]},
    ]
    (tmp_path / "found" / "0003").mkdir(parents=True)
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "found" / "0003" / "frames.jsonl").write_text(text, encoding="utf-8")
    car = evaluate_tracks(*folders).classes["Car"]
    assert (car.hota, car.mota, car.idf1) == pytest.approx((1, 1, 1))


def test_what_cannot_be_compared_is_refused(folders):
    write(folders[0], "0000", [line(0, 0, "Car", (10, 10, 60, 60))])
    with pytest.raises(DataError, match="no such folder"):
        evaluate_tracks(*folders)
    folders[1].mkdir()
    with pytest.raises(DataError, match="no sequence"):
        evaluate_tracks(*folders)
    write(folders[1], "0000", [line(0, 0, "Tram", (10, 10, 60, 60))])
    with pytest.raises(DataError, match=r"no track has a class that is scored .* found Tram"):
        evaluate_tracks(*folders)
    write(folders[1], "0001", [line(0, 0, "Car", (10, 10, 60, 60))])
    with pytest.raises(DataError, match="no labels of this sequence"):
        evaluate_tracks(*folders)


def random_frame(random, frame, objects, names):
    """The lines of a frame: objects that walk, tracks that follow some of them, false alarms."""
    truth, tracks = [], []
    if random.random() < 0.5:
        corner = random.uniform(0, 250, 2)
        truth.append(line(frame, -1, "DontCare", (*corner, *(corner + 90)), -1, -1))
    for i, (kind, box) in enumerate(objects):
        box[:] += np.tile(random.normal(0, 4, 2), 2)
        if random.random() < 0.9:
            graded = random.choice([0, 0, 0, 1]), random.integers(0, 4)
            truth.append(line(frame, i, kind, box, *graded))
        if random.random() < 0.85:
            seen = {"Van": "Car", "Person": "Pedestrian"}.get(kind, kind)
            tracks.append(line(frame, names[i], seen, box + random.normal(0, 5, 4), -1, -1))
    for extra in range(int(random.integers(0, 3))):
        corner, wide = random.uniform(0, 250, 2), random.uniform(10, 60, 2)
        kind = random.choice(["Car", "Pedestrian"])
        tracks.append(line(frame, names[-1 - extra], kind, (*corner, *(corner + wide)), -1, -1))
    return truth, [f"{text} 0.5" for text in tracks]


def random_sequences(random, labels, found, count=3, frames=12):
    """Sequences with gaps, swaps of tracks and areas that do not count."""
    lines = []
    for sequence in range(count):
        kinds = random.choice(["Car", "Van", "Pedestrian", "Person", "Cyclist"], 8)
        corners = random.uniform(0, 200, (8, 2))
        boxes = np.hstack([corners, corners + random.uniform(15, 70, (8, 2))])
        names = random.permutation(50)[:12]
        truth = [line(0, 99, kind, (400, 0, 460, 60)) for kind in ("Car", "Pedestrian")]
        tracks = [line(0, 99, "Car", (0, 0, 30, 30), -1, -1) + " 0.5"]
        for frame in range(frames):
            if random.random() < 0.2:
                names[:2] = names[1::-1]
            labelled, followed = random_frame(
                random, frame, list(zip(kinds, boxes, strict=True)), names
            )
            truth += labelled
            tracks += followed
        name = f"{sequence:04d}"
        write(labels, name, truth)
        write(found, name, tracks)
        lines.append(f"{name} empty 000000 {frames:06d}\n")
    (labels.parent / "evaluate_tracking.seqmap.training").write_text("".join(lines))


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_trackeval(seed, tmp_path):
    trackeval = pytest.importorskip("trackeval", reason="TrackEval is not installed")
    random_sequences(np.random.default_rng(seed), tmp_path / "label_02", tmp_path / "found")
    (tmp_path / "trackers" / "ours").mkdir(parents=True)
    (tmp_path / "found").rename(tmp_path / "trackers" / "ours" / "data")
    config = {
        "GT_FOLDER": str(tmp_path),
        "TRACKERS_FOLDER": str(tmp_path / "trackers"),
        "OUTPUT_FOLDER": str(tmp_path / "out"),
        "PRINT_CONFIG": False,
    }
    data = trackeval.datasets.Kitti2DBox(config)
    quiet = {"PRINT_CONFIG": False}
    metrics = trackeval.metrics
    ours = evaluate_tracks(tmp_path / "label_02", tmp_path / "trackers" / "ours" / "data")
    for name, part in ours.classes.items():
        prepared = {
            sequence: data.get_preprocessed_seq_data(
                data.get_raw_seq_data("ours", sequence), name.lower()
            )
            for sequence in data.seq_list
        }
        results: dict[str, Any] = {}
        for metric in (metrics.HOTA(), metrics.CLEAR(quiet), metrics.Identity(quiet)):
            each = {key: metric.eval_sequence(values) for key, values in prepared.items()}
            results |= metric.combine_sequences(each)
        wanted = [results[key].mean() for key in ("HOTA", "DetA", "AssA")]
        wanted += [results[key] for key in ("MOTA", "MOTP", "IDF1")]
        found = (part.hota, part.det_a, part.ass_a, part.mota, part.motp, part.idf1)
        assert found == pytest.approx(wanted, abs=1e-9)
        counts = [results[key] for key in ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW")]
        assert [part.hits, part.misses, part.alarms, part.switches] == counts
    assert sum(part.hits for part in ours.classes.values()) > 20

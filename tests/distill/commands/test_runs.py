import json

from edgedetr.distill.training.run_log import RunLog


def make_run(folder):
    log = RunLog(folder, 0, 1)
    log.step(0, 0, {"loss": 1.0})
    log.evaluation(1, 0, {"ap": float("nan"), "ap50": 0.5})
    log.close()


def test_runs_are_listed_as_a_table_and_as_json(edgedetr, tmp_path):
    make_run(tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "run.json").write_text("{")
    status, out, err = edgedetr("runs", tmp_path, "--sort", "name", "--json", tmp_path / "r.json")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["run", "state", "steps"]
    assert lines[1].split()[:4] == ["one", "stopped", "1", "-"]
    assert lines[2].split()[:2] == ["two", "broken"]
    assert err.startswith("two: ")
    assert "Traceback" not in err
    found = json.loads((tmp_path / "r.json").read_text())
    assert [(run["folder"], run["ap_last"]) for run in found] == [("one", None), ("two", None)]


def test_a_missing_folder_is_one_line(edgedetr, tmp_path):
    status, _, err = edgedetr("runs", tmp_path / "none")
    assert (status, err) == (
        1,
        f"edgedetr: {tmp_path}/none: no such folder; wanted one that holds runs\n",
    )

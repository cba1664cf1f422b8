"""Every wrong request ends in one clear line and an exit status: 2 for usage, 1 for the rest."""

import sys

import pytest

from edgedetr.runtime.cli import main


@pytest.fixture
def edgedetr(monkeypatch, capsys, tmp_path):
    """Runs the command line in an empty folder; returns exit status and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["edgedetr", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[data]\nroot = "nowhere"\n', encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["distil"], 2, "no command 'distil'; did you mean 'distill'?"),
        (["distill", "trian"], 2, "No such command 'trian'"),
        (["detect", "m.onnx", "--imges", "x"], 2, "Did you mean '--images'"),
        (["detect", "m.onnx"], 2, "Missing option '--images'"),
        (["distill", "train", "none.toml"], 2, "no config none.toml"),
        (["distill", "compare", "none.toml", "--methods", "none"], 2, "no config none.toml"),
        (["distill", "compare", "none.toml"], 2, "Missing option '--methods'"),
        (["data", "check", "nowhere"], 1, "nowhere"),
        (
            ["data", "check", "."],
            1,
            "wanted one of these formats: bdd100k (",
        ),
        (["evaluate", "kitti", "--labels", "a", "--detections", "b"], 1, "no"),
        (["export", "onnx", "none.safetensors"], 1, "no checkpoint none.safetensors"),
        (["export", "qdq", "none.onnx", "none.json"], 1, "none"),
        (["calib", "collect", "none.onnx"], 2, "give either --data ROOT or --images DIR"),
        (["calib", "collect", "none.onnx", "--images", "x"], 1, "x: no such folder"),
        (["verify", "a.onnx", "b.onnx", "--images", "x"], 1, "x: no such folder"),
        (["bench", "latency", "none.onnx", "--images", "x", "--json", "o"], 1, "x: no such folder"),
        (["report", "nowhere"], 1, "nowhere"),
        (["package", "none.onnx"], 1, "none.onnx is missing"),
        (["package", "verify", "none.tar"], 1, "none.tar is missing"),
        (["package", "vrify", "none.tar"], 2, "No such command 'vrify'. Did you mean 'verify'?"),
    ],
)
def test_a_wrong_request_is_one_line(edgedetr, tmp_path, arguments, status, message):
    code, error = edgedetr(*arguments)
    assert code == status, error
    assert message in error
    assert error.count("\n") == 1, error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "status", "message"),
    [
        ("epoch=1", 2, "unknown key 'epoch'; did you mean 'epochs'?"),
        ("student.family=dfine", 2, "no 'dfine' in detectors; did you mean 'd_fine'?"),
        ("student.preset=edge-tny", 2, "no preset 'edge-tny' in d_fine; did you mean 'edge-tiny'?"),
        ("methods=['clok']", 2, "no 'clok' in methods; did you mean 'clock'?"),
        ("data.format=kiti", 2, "no 'kiti' in data; did you mean 'kitti'?"),
        ("teacher=none.safetensors", 1, "no checkpoint none.safetensors"),
        ("seed=0", 1, "nowhere"),
    ],
)
def test_a_wrong_setting_is_one_line(edgedetr, config, tmp_path, setting, status, message):
    code, error = edgedetr("distill", "train", config, "--set", setting)
    assert code == status, error
    assert message in error
    assert error.count("\n") == 1, error
    assert [p.name for p in tmp_path.iterdir()] == ["c.toml"]


@pytest.mark.parametrize(
    ("arms", "status", "message"),
    [
        ("none,clok", 2, "no 'clok' in methods; did you mean 'clock'?"),
        ("none,clock", 2, "the arm 'clock': method 'clock' needs a teacher checkpoint"),
        ("none,none", 2, "the arm 'none' is listed twice"),
        ("none", 1, "nowhere"),
    ],
)
def test_a_wrong_comparison_is_one_line(edgedetr, config, tmp_path, arms, status, message):
    code, error = edgedetr("distill", "compare", config, "--methods", arms)
    assert code == status, error
    assert message in error
    assert error.count("\n") == 1, error
    assert [p.name for p in tmp_path.iterdir()] == ["c.toml"]


def test_no_arguments_print_the_help(edgedetr):
    code, _ = edgedetr()
    assert code == 2

import json

import pytest

from edgedetr.distill.commands import tune as command

CONFIG = 'epochs = 1\n[data]\nroot = "{}"\n[tune]\ntrials = {}\n{}\n'


def test_a_search_says_what_it_found(edgedetr, kitti, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    from edgedetr.distill import recipe

    monkeypatch.setattr(
        recipe, "train", lambda config, *_: {"ap": config.optimizer.gamma, "ap50": 0}
    )
    space = '[tune.space]\n"optimizer.gamma" = { choices = [0.5, 0.25] }'
    (tmp_path / "c.toml").write_text(CONFIG.format(kitti, 2, space))
    status, out, err = edgedetr("distill", "tune", tmp_path / "c.toml", "-o", tmp_path / "s",
                                "--json", tmp_path / "f.json")  # fmt: skip
    assert (status, err) == (0, "")
    found = json.loads((tmp_path / "f.json").read_text("utf-8"))
    assert (found["path"], found["trials"]) == (str(tmp_path / "s/best.toml"), 2)
    lines = out.splitlines()
    assert lines[0].startswith("[1/2] trial-000: 0.")
    assert lines[-1].startswith(f"{tmp_path}/s/best.toml: ap 0.")
    assert lines[-1].endswith("the best of 2 trials; 0 ended early, 0 failed")
    status, _, _ = edgedetr("distill", "train", tmp_path / "s/best.toml", "-o", tmp_path / "t",
                            "--dry-run")  # fmt: skip
    assert status == 0


def test_a_bad_key_is_refused_with_the_nearest(edgedetr, kitti, tmp_path):
    pytest.importorskip("optuna")
    space = "[tune.space.optimizer]\ngama = { low = 0.1, high = 0.2 }"
    (tmp_path / "c.toml").write_text(CONFIG.format(kitti, 2, space))
    status, out, err = edgedetr("distill", "tune", tmp_path / "c.toml", "-o", tmp_path / "s")
    assert (status, out) == (2, "")
    assert err == ("edgedetr: tune.space: optimizer: unknown key 'gama'; did you mean 'gamma'?\n")
    assert not (tmp_path / "s").exists()


def test_without_optuna_it_is_one_line(edgedetr, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    status, _, err = edgedetr("distill", "tune", tmp_path / "c.toml")
    assert (status, err) == (
        2,
        "edgedetr: edgedetr distill tune needs Optuna: pip install 'edgedetr[tune]'\n",
    )


def test_several_processes_are_refused(edgedetr, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = edgedetr("distill", "tune", tmp_path / "c.toml")
    assert status == 2
    assert "runs in one process; start it without a launcher" in err

"""Recipes are found by name, in a checkout as in a wheel."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgedetr.distill.cli import distill
from edgedetr.distill.config import load_config
from edgedetr.distill.recipes import recipe_path, recipe_text, recipes, summary
from edgedetr.runtime.errors import UsageError


def test_every_recipe_says_what_it_is():
    assert {"kitti", "synth", "road_teacher"} <= recipes().keys()
    for path in recipes().values():
        assert len(summary(path)) > 20, path


def test_a_name_is_a_recipe_and_a_path_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(recipe_path(Path("kitti")), ()).student.preset == "edge-tiny"
    assert recipe_path(Path("kitti.toml")) == Path("kitti.toml")
    assert recipe_path(Path("configs/kitti")) == Path("configs/kitti")
    (tmp_path / "kitti").write_text("", encoding="utf-8")
    assert recipe_path(Path("kitti")) == Path("kitti")
    with pytest.raises(UsageError, match="neither a file nor a recipe; did you mean 'synth'"):
        recipe_path(Path("sinth"))


def test_the_command_lists_and_prints_them():
    listed = CliRunner().invoke(distill, ["recipes"]).output.splitlines()
    assert len(listed) == len(recipes())
    (kitti,) = [line for line in listed if line.startswith("kitti ")]
    assert "A compact student for KITTI" in kitti
    printed = CliRunner().invoke(distill, ["recipes", "kitti"]).output
    assert printed == recipes()["kitti"].read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ["/dev/zero", "no/such.toml", "binary.toml"])
def test_what_is_no_config_is_not_printed(tmp_path, path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not a readable config"):
        recipe_text(tmp_path / path)


def test_a_recipe_is_trained_by_its_name(tmp_path, monkeypatch):
    found = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgedetr.distill.recipe.draw", lambda _, path: found.append(path))
    done = CliRunner().invoke(distill, ["train", "kitti", "--dry-run"], obj=None)
    assert done.exit_code == 0, done.output
    assert found == [Path("runs/kitti/samples.png")]

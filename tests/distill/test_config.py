import pytest

from edgedetr.distill.config import MethodConfig, load_config
from edgedetr.distill.methods.clock import Settings
from edgedetr.runtime.errors import SettingsError, UnknownNameError

MINIMAL = '[data]\nroot = "somewhere"\n'


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_live_in_the_dataclass(tmp_path):
    config = load_config(write(tmp_path / "c.toml", MINIMAL))
    assert config.student.input_hw == (96, 320)
    assert config.data.classes == ("Car", "Pedestrian", "Cyclist")
    assert config.methods == ("none",)


def test_overrides_reach_into_tables_and_take_bare_strings(tmp_path):
    path = write(tmp_path / "c.toml", MINIMAL)
    config = load_config(
        path, ["epochs=3", "data.root=../some/where", "student.input_hw=[64, 96]", "seed = 7"]
    )
    assert (config.epochs, config.data.root, config.student.input_hw, config.seed) == (
        3,
        "../some/where",
        (64, 96),
        7,
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("data.rot=x", "unknown key 'rot'; did you mean 'root'"),
        ("epochs=many", "epochs: wanted int, found 'many'"),
        ("epochs=true", "epochs: wanted int, found True"),
        ("epochs=0", "at least 1"),
        ("student.input_hw=[96]", "wanted 2 values"),
        ("student.input_hw=[100, 320]", "multiples of 32"),
        ("student.resize=crop", "'crop' is no choice; choose from letterbox, stretch"),
        ("optimizer.ema_decay=1.5", "ema_decay"),
        ("methods=['clock']", "needs a teacher"),
        ("methods=[]", "at least one"),
        ("methods=['none', 'none']", "different names"),
        ("method.clock.weight=-1", "method.clock.weight must be a number of at least 0"),
        ("student.inherit=true", "inherit needs a teacher"),
        ("student={inherit=true, init='a.safetensors'}", "set neither init nor backbone_weights"),
        ("class_map.Cat='Car'", "class_map names 'Cat'"),
        ("epochs", "wanted key=value"),
        ("epochs.x=1", "'epochs' is no table"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, override, message):
    text = "epochs = 2\n" + MINIMAL
    with pytest.raises(SettingsError, match=message):
        load_config(write(tmp_path / "c.toml", text), [override])


def test_method_settings_are_checked_with_the_config(tmp_path):
    text = 'teacher = "t.safetensors"\nmethods = ["clock"]\nmethod.clock.alpha = 1e-4\n' + MINIMAL
    config = load_config(write(tmp_path / "c.toml", text), ["method.clock.weight=2"])
    assert config.method_config("clock") == MethodConfig("clock", 2.0, 0.0, Settings(alpha=1e-4))
    with pytest.raises(SettingsError, match="unknown key 'alfa'; did you mean 'alpha'"):
        load_config(write(tmp_path / "d.toml", text.replace("alpha", "alfa")))
    with pytest.raises(UnknownNameError, match="no 'clok' in methods; did you mean 'clock'"):
        load_config(write(tmp_path / "e.toml", text.replace('"clock"', '"clok"')))


def test_a_missing_or_damaged_file_is_one_line(tmp_path):
    with pytest.raises(SettingsError, match="no config"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="not a readable TOML file"):
        load_config(write(tmp_path / "bad.toml", "epochs = = 2"))
    with pytest.raises(SettingsError, match="the key 'data' is missing"):
        load_config(write(tmp_path / "empty.toml", ""))

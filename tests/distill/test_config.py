from dataclasses import replace

import pytest

from edgedetr.distill.config import (
    DataConfig,
    DistillConfig,
    MethodConfig,
    StudentConfig,
    load_config,
)
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
        ("optimizer.learning_rate=nan", "learning_rate: wanted a finite number, found nan"),
        ("optimizer.learning_rate=inf", "learning_rate: wanted a finite number, found inf"),
        ("optimizer.learning_rate=1e400", "learning_rate: wanted a finite number, found inf"),
        ("optimizer.clip_norm=inf", "clip_norm: wanted a finite number"),
        ("optimizer.weight_decay=-1", "weight_decay must be at least 0, got 1.0 and -1"),
        ("optimizer.backbone_factor=-1", "backbone_factor and weight_decay must be at least 0"),
        ("optimizer.warmup_steps=-5", "warmup_steps must be at least 0 and at most .*, got -5"),
        ("optimizer.ema_decay=nan", "ema_decay: wanted a finite number"),
        (f"seed={'9' * 5000}", "--set seed: not a value: .*digit"),
        (f"seed={'9' * 4000}", "seed: wanted a smaller number, found a number of 13288 bits"),
        ("seed=-1", "seed must be at least 0 and at most 4294967295, got -1"),
        ("seed=99999999999", "seed must be at least 0"),
        (f"epochs={'[' * 4000}", "--set epochs: not a value"),
        ("epochs=9223372036854775808", "epochs: wanted a smaller number, found a number of 64"),
        ("batch_size=9223372036854775807", "batch_size must be at least 1 and at most"),
        ("eval_every=0", "eval_every must be at least 1"),
        ("data.workers=-1", "workers must be at least 0 and at most 256, got -1"),
        ("data.workers=100000", "workers must be at least 0 and at most 256"),
        ("data.root=''", "root must be the folder of a data set"),
        ('data.root="a\\u0000b"', "root: wanted text without a NUL"),
        ("data.train_split=../../etc/passwd", "must be names, got '../../etc/passwd'"),
        ("data.val_split=''", "must be names, got ''"),
        ("data.classes=[]", "classes must be different names, at least one"),
        ("data.classes=['Car', 'Car']", "classes must be different names"),
        ("data.classes=['Car', '']", "classes holds ''; wanted a name of printable"),
        (
            'data.classes=["Car\\u001b[31m"]',
            r"classes holds 'Car\\x1b\[31m'; wanted a name of printable",
        ),
        ("student.input_hw=[32000, 32]", "at most 8192, got"),
        ("student.input_hw=[-32, 32]", "multiples of 32"),
        ("student.preset=5", "preset: wanted str, found 5"),
        ("method.clock=5", "method.clock must be a table, got 5"),
        ("method.clock.weight=nan", "method.clock.weight must be a number of at least 0, got nan"),
        (
            "method.clock.weight=1e400",
            "method.clock.weight must be a number of at least 0, got inf",
        ),
        ("method.clock.share='x'", "method.clock.share must be a number of at least 0, got x"),
        ("method.clock.lcmd_weight=-1", "clock.lcmd_weight must be a number of at least 0, got -1"),
        ("method.fgd.temperature=nan", "fgd.temperature must be a number of at least 0, got nan"),
        ("class_map.Car=[1]", r"class_map.Car must be a name or a list of names, got \[1\]"),
        ("qat.include='('", r"must be regular expressions, found '\(': missing \)"),
        ("qat.frames=-3", "qat.frames must be at least 1"),
        ("data.augment=flip+strong", r"one augmentation twice: 'flip\+strong' is flip\+flip"),
        ("data.repeat_threshold=2", r"repeat_threshold must lie in \[0, 1\], got 2"),
        ("data.scales=[]", r"scales must lie in \[0.1, 10\], at least one, got \(\)"),
        ("data.rectangular=[[100,64]]", "rectangular must be multiples of 32"),
        (
            "data={root='a', unlabelled='b', rectangular=[[64, 96]]}",
            "unlabelled frames have one size: set unlabelled or rectangular",
        ),
        ("data.no_aug_epochs=-1", "no_aug_epochs must be at least 0"),
        ("optimizer.schedule=linear", "'linear' is no choice"),
        ("optimizer.gamma=0", r"gamma must lie in \(0, 1\]"),
        ("best_metric=ap99", "'ap99' is no choice"),
        ("patience=3", "patience needs best_metric"),
        ("keep_states=0", "keep_states must be at least 1"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, override, message):
    text = "epochs = 2\n" + MINIMAL
    with pytest.raises(SettingsError, match=message) as caught:
        load_config(write(tmp_path / "c.toml", text), [override])
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


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


def test_a_student_has_one_start():
    with pytest.raises(ValueError, match="init, which has a backbone, or backbone_weights"):
        StudentConfig(init="a", backbone_weights="b")


def test_what_a_run_does_without_is_not_recorded(tmp_path):
    """Runs of before there were such settings are the same runs."""
    plain = DistillConfig(data=DataConfig(root="data"))
    record = plain.record()
    assert not record.keys() & {"qat", "teacher_input", "foundation"}
    assert not {"mean", "std"} & record["student"].keys()
    assert not any(key.startswith("unlabelled") for key in record["data"])
    used = replace(
        plain,
        data=replace(plain.data, unlabelled="more"),
        student=replace(plain.student, mean=(0.5,) * 3, std=(0.2,) * 3),
        methods=("foundation",),
        foundation=str(tmp_path),
    )
    record = used.record()
    assert record["data"]["unlabelled"] == "more"
    assert record["student"]["mean"] == (0.5,) * 3
    assert used.weights["foundation"] == record["foundation"] == str(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ("foundation",)}, "method 'foundation' needs foundation"),
        ({"data": DataConfig("data", unlabelled="more")}, "data.unlabelled needs a method with"),
        (
            {
                "data": DataConfig("data", unlabelled="more"),
                "teacher": "t.safetensors",
                "methods": ("clock",),
                "batch_size": 1,
            },
            "batch_size with data.unlabelled must be at least 2",
        ),
    ],
)
def test_frames_and_foundations_that_nothing_uses_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DistillConfig(**{"data": DataConfig("data"), **settings})


def test_shares_and_scores_of_unlabelled_frames_have_a_range():
    with pytest.raises(ValueError, match="unlabelled_share and unlabelled_score must lie in"):
        DataConfig("data", unlabelled_share=1.0)

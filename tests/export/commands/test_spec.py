"""The command that drafts a spec writes it once, and says what to check."""

import numpy as np
import onnx

from edgedetr.runtime.spec import spec_from_toml

LOGITS = np.random.default_rng(0).normal(-4, 2, (1, 8, 2))
BOXES = np.random.default_rng(1).uniform(0.1, 0.9, (1, 8, 4))


def test_the_command_writes_a_draft_once(tmp_path, onnx_model, edgedetr):
    model = onnx_model(
        [("Conv", "conv", ["images", "w"], "x", {})],
        {"w": np.ones((2, 3, 1, 1)), "logits": LOGITS, "boxes": BOXES},
        inputs={"images": (1, 3, 64, 64)},
        outputs=["x", "logits", "boxes"],
    )
    onnx.helper.set_model_props(model, {"names": "{0: 'bus', 1: 'tram'}"})
    path, toml = tmp_path / "m.onnx", tmp_path / "s.toml"
    onnx.save(model, path)
    status, out, err = edgedetr("spec", path, "-o", toml)
    assert status == 0
    assert "unsure about activation: logits of a sigmoid or of a softmax" in err
    assert "class_names" not in err
    assert out.startswith(f"{toml}: ")
    assert spec_from_toml(toml).class_names == ("bus", "tram")
    status, _, err = edgedetr("spec", path, "-o", toml)
    assert (status, "s.toml exists; remove it" in err) == (2, True)
    status, out, _ = edgedetr("spec", path)
    assert (status, out) == (0, toml.read_text(encoding="utf-8"))

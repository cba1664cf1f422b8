"""The record: what it says must be what its figures say, and signed where a gate wants that."""

import json
from dataclasses import replace

import pytest

from edgedetr.export.package.keys import keygen
from edgedetr.runtime.cuda.device import CudaDevice
from edgedetr.runtime.device_check.measure import Pace
from edgedetr.runtime.device_check.record import make_record, read_record, write_record
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.package.private_key import load_private_key

DEVICE = CudaDevice("Orin", "8.7")


@pytest.fixture
def made(tmp_path):
    """Make the record of some models."""

    def make(*checks, device=DEVICE):
        pace = Pace(2, 1000.0)
        return make_record(tmp_path / "m.tar", device, checks, pace, {"cpu": 40.5}, "edgedetr")

    return make


def test_what_is_written_is_read(made, model_check, tmp_path):
    path = tmp_path / "check.json"
    wanted = made(model_check("int8"))
    write_record(wanted, path, None)
    found = json.loads(path.read_text())
    assert (found["format"], found["verdict"]) == ("edgedetr-device-check-2", "passed")
    assert (found["model"], found["fastest"]) == ("m.tar", "int8")
    assert found["device"] == {"name": "Orin", "compute_capability": "8.7"}
    assert found["temperatures_c"]["before"] == {"cpu": 40.5}
    assert found["models"][0]["check"]["paced"]["p999_ms"] == 6
    assert found["models"][0]["check"]["agreement"] == {"frames": 2, "detections": 3, "lost": 0}
    assert read_record(path) == (wanted, "")


def test_models_are_judged_together(made, model_check):
    found = made(model_check("fp16", p99_ms=4.0), model_check("int8"))
    assert (found.verdict, found.fastest) == ("failed", "fp16")
    assert "INT8 does not pay here" in found.models[1].problems[0]
    assert made().verdict == "failed"


def test_a_rehearsal_says_nothing_of_time(made, model_check):
    found = made(model_check("fp16", p99_ms=4.0), model_check("int8"), device=None)
    assert (found.verdict, found.simulated, found.device.name) == ("passed", True, "simulated")


def test_what_did_not_run_has_a_reason(made, model_check):
    found = made(replace(model_check("m"), check=None, problems=()))
    assert (found.verdict, found.models[0].problems) == ("failed", ("it did not run",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(verdict="failed"), "the verdict 'failed' is not what its figures say"),
        (lambda r: r.update(fastest=None), "the verdict 'passed' is not what its figures say"),
        (lambda r: r["models"][0]["check"]["agreement"].update(lost=2), "says of int8 is not what"),
        (lambda r: r["models"][0].update(check=None), "says of int8 is not what its figures say"),
        (lambda r: r["models"][0]["check"]["paced"].update(p99_ms="4"), "wanted float, found '4'"),
        (lambda r: r.update(format="edgedetr-device-check-1"), "is no choice"),
        (lambda r: r.pop("device"), "the key 'device' is missing"),
    ],
)
def test_a_record_that_says_other_than_its_figures(made, model_check, tmp_path, change, message):
    path = tmp_path / "check.json"
    write_record(made(model_check("int8")), path, None)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match=message):
        read_record(path)


def test_a_signed_record(made, model_check, tmp_path):
    path, key = tmp_path / "check.json", tmp_path / "k"
    name = keygen(key)
    write_record(made(model_check("fp16")), path, load_private_key(key))
    assert read_record(path)[1] == name
    path.write_text(path.read_text().replace('"Orin"', '"Thor"'))
    with pytest.raises(ArtifactError, match=r"is not what check\.json\.sig signed"):
        read_record(path)
    write_record(made(model_check("fp16")), path, None)  # the old signature goes
    assert read_record(path)[1] == ""

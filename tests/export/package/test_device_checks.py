"""What a device found of the models is a gate of their package."""

import json

import pytest

from edgedetr.export.package.candidate import read_candidate
from edgedetr.export.package.device_checks import device_proof
from edgedetr.export.package.keys import keygen
from edgedetr.export.package.write import Contents, package
from edgedetr.graph.checksum import model_files
from edgedetr.runtime.errors import ArtifactError, GateError
from edgedetr.runtime.package.reader import read_package


def test_a_package_says_what_the_device_found(checked, device_record, fp32, tmp_path):
    key = tmp_path / "device.key"
    signer = keygen(key)
    record = device_record(fp32, key=key)
    made = package(Contents(**checked, device_checks=(record,)), tmp_path / "p.tar")
    power = json.loads(record.read_text())["power_mode"] or "no power mode"
    assert made.gates[-1] == (
        f"Orin, {power}: m.onnx p99 5.00 ms at 30 Hz; signed by {signer[:16]}"
    )
    with read_package(tmp_path / "p.tar", require_signature=False) as opened:
        assert opened.read("devices/device.json") == record.read_bytes()
        assert opened.read("devices/device.json.sig")


def test_a_rehearsal_is_no_proof(refuses, device_record, fp32):
    record = device_record(fp32, simulated=True)
    refuses(r"device\.json is a rehearsal on a CPU", [fp32], device_checks=(record,))


def test_a_model_that_must_not_ship(refuses, device_record, fp32):
    record = device_record(fp32, lost=1)
    message = r"device\.json: models/m\.onnx must not ship for Orin: 1 of 3 detections differ"
    refuses(message, [fp32], device_checks=(record,))


def test_a_record_of_other_models(refuses, device_record, fp32, int8):
    record = device_record(int8)
    refuses(r"device\.json tells of no model that is packed", [fp32], device_checks=(record,))


def test_a_record_that_was_changed_after_it_was_signed(refuses, device_record, fp32, tmp_path):
    keygen(tmp_path / "device.key")
    record = device_record(fp32, key=tmp_path / "device.key")
    record.write_text(record.read_text().replace('"Orin"', '"Thor"'))
    message = r"device\.json is not what device\.json\.sig signed"
    refuses(message, [fp32], error=ArtifactError, device_checks=(record,))


def test_weights_beside_a_model_are_those_that_ran(device_record, fp32, weights_beside, tmp_path):
    model, weights = weights_beside(fp32, tmp_path / "fp32")
    candidate = read_candidate(model, None)
    assert len(model_files(model)) == 2
    record = device_record(model, beside=[weights])
    assert device_proof(record, [candidate], {}).shown == {candidate.parts[0]}
    with pytest.raises(GateError, match=r"is about other weights than those of m\.onnx in "):
        device_proof(device_record(model), [candidate], {})


def test_a_policy_wants_a_device_and_its_signature(refuses, checked, device_record, fp32, tmp_path):
    policy, key = tmp_path / "fleet.toml", tmp_path / "device.key"
    keygen(key)
    policy.write_text('require = ["device"]\ndevice_keys = ["device.key.pub"]\n')
    models = checked.pop("models")
    given = {**checked, "policy": policy, "references": ()}
    refuses(r"requires device: no device ran m\.onnx; give its record with", models, **given)
    unsigned = device_record(fp32)
    message = r"device\.json is signed by nobody, wanted one of device\.key\.pub; run edgedetr dev"
    refuses(message, models, device_checks=(unsigned,), **given)
    signed = device_record(fp32, key=key)
    contents = Contents(models, **{**given, "device_checks": (signed,)})
    assert package(contents, tmp_path / "good.tar").gates[-1] == "policy fleet.toml is fulfilled"

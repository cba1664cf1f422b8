"""Records of devices in a run's folder."""

import json

import pytest

from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.bench.report.devices import DeviceModel, device_rows, read_devices
from edgedetr.export.package.keys import keygen
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import sha256


def test_what_a_device_found_of_the_runs_models(run, device_record, tmp_path):
    signer = keygen(tmp_path / "key")
    student = run / "student.int8.onnx"
    device_record(student, run.parent / "data/ImageSets/val.txt", folder=run, key=tmp_path / "key")
    (device,) = read_devices(run)
    assert (device.file, device.device, device.signed_by) == ("device.json", "Orin", signer)
    wanted = DeviceModel(
        "models/student.int8.onnx", sha256(student), 3.0, 5.0, 6.0, 1, 9.5, problems=()
    )
    assert device.models == (wanted,)
    place = f"Orin, 30 Hz; signed by {signer[:16]}"
    cells = ("student.int8.onnx", "3.00", "5.00", "6.00", "1 of 2", "10", "may ship")
    assert device_rows([device]) == [(place, *cells)]


def test_a_rehearsal_is_called_one(run, device_record):
    device_record(run / "student.onnx", folder=run, simulated=True, lost=2)
    (row,) = device_rows(read_devices(run))
    assert row[0] == "rehearsal on a CPU, 30 Hz"
    assert row[-1].startswith("2 of 3 detections differ from the ONNX file")
    device_record(run / "student.onnx", folder=run, simulated=True)
    (row,) = device_rows(read_devices(run))
    assert row[-1] == "no proof"


def test_a_record_of_other_models_is_refused(run, device_record, tmp_path):
    device_record(tmp_path / "data/ImageSets/val.txt", folder=run)
    with pytest.raises(ArtifactError, match=r"device\.json is about none of the models beside it"):
        read_devices(run)


def test_the_report_shows_devices(run, device_record):
    assert read_devices(run) == ()
    device_record(run / "student.onnx", folder=run)
    write_report(run, DataChoice())
    (device,) = json.loads((run / "report.json").read_text())["devices"]
    assert device["models"][0]["p99_ms"] == 5.0
    page = (run / "report.html").read_text()
    assert "<h2>On devices</h2>" in page
    assert "<td>may ship</td>" in page

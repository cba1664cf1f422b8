import pytest

from edgedetr.bench.report.run_folder import read_run_folder
from edgedetr.runtime.errors import ArtifactError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", '{"config": 5}'),
        ("metrics.json", '{"config": {"data": 5}}'),
        ("metrics.json", '{"config": {"data": {}}}'),
        ("metrics.json", '{"config": {"data": {"root": 5}}}'),
        ("metrics.json", '{"config": {"data": {"root": "data", "val_split": 5}}}'),
        ("metrics.json", "[" * 90_000),
        ("log.jsonl", '{"kind": "step", "step": 1e999}\n{"step": 1}\n'),
        ("log.jsonl", "[" * 90_000 + "\nx\n"),
        ("log.jsonl", "\xff\nx\n"),
        ("student.int8.onnx.coverage.json", "[" * 90_000),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, text):
    (tmp_path / "student.onnx").write_bytes(b"")
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=name):
        read_run_folder(tmp_path)

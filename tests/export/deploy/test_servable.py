import pytest

from edgedetr.export.deploy.triton import write_repository
from edgedetr.runtime.errors import ArtifactError

ENGINE = "models/m.engine"


def test_an_engine_that_no_server_runs(packaged, tmp_path):
    package = packaged(engine="tensorrt_rtx==1.1.0")
    with pytest.raises(ArtifactError, match=r"built with tensorrt_rtx==1\.1\.0, which no server"):
        write_repository(package, tmp_path / "made", ENGINE)
    assert not (tmp_path / "made").exists()

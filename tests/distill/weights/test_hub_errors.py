"""Downloads from a server on this machine that speaks as the hub does."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, ClassVar

import pytest
from huggingface_hub import constants
from typing_extensions import override

from edgedetr.distill.config import StudentConfig
from edgedetr.distill.teacher_config import TeacherConfig
from edgedetr.distill.training.models import open_student, open_teacher
from edgedetr.distill.weights.imported_cache import imported
from edgedetr.distill.weights.pretrained import local_file
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME, WEIGHTS = "somebody/detector", "model.safetensors"
COMMIT = "c" * 40
NOBODY = "http://127.0.0.1:9"
"""An address where nothing listens."""
REFUSALS = {"somebody/gated": (401, "GatedRepo"), "somebody/missing": (404, "RepoNotFound")}


@dataclass
class Hub:
    """What the server has, and how it treats requests.

    Attributes:
        files: Content of the repository by file name.
        cuts: How many answers with weights still break off in the middle.
        ranges: The ranges of the weights that were asked for; empty for the whole file.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: int = 0
    ranges: list[str] = field(default_factory=list)


class Answers(BaseHTTPRequestHandler):
    """The server's answers: revision, tree and files of one repository."""

    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    @override
    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = re.sub(r"^/(api/models/)?([^/]+/[^/]+)/.*", r"\2", self.path)
        file = self.path.rpartition("/")[2]
        if name in REFUSALS:
            self.send(REFUSALS[name][0], b"", {"X-Error-Code": REFUSALS[name][1]})
        elif "/revision/" in self.path:
            self.send(200, json.dumps({"id": name, "sha": COMMIT}).encode())
        elif "/tree/" in self.path:
            rows = [
                {"type": "file", "path": path, "size": len(content), "oid": etag(content)}
                for path, content in self.hub.files.items()
            ]
            self.send(200, json.dumps(rows).encode())
        elif file in self.hub.files:
            self.send_file(file, self.hub.files[file])
        else:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def send_file(self, name: str, content: bytes) -> None:
        headers = {"ETag": f'"{etag(content)}"', "X-Repo-Commit": COMMIT}
        given = self.headers.get("Range", "")
        start = int(given.removeprefix("bytes=").partition("-")[0] or 0)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        rest, sent = content[start:], None
        if self.command == "GET" and name == WEIGHTS:
            self.hub.ranges.append(given)
            if self.hub.cuts:
                self.hub.cuts, sent = self.hub.cuts - 1, len(rest) // 2
        self.send(206 if start else 200, rest, headers, sent)

    def send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        sent: int | None = None,
    ) -> None:
        """Answer with a body, or with its first bytes and then nothing more."""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])
        self.close_connection = sent is not None


def etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def hub(foreign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a random RT-DETR, and caches of its own."""
    folder = foreign()
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = Hub(content | {"pytorch_model.bin": b"a pickle"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Answers,), {"hub": found}))
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setenv("EDGEDETR_CACHE", str(tmp_path / "cache"))
    yield found
    server.shutdown()
    server.server_close()


def test_a_name_is_downloaded_once_and_without_the_pickle(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = imported(NAME)
    assert path.parent.parent == tmp_path / "cache" / "imported"
    assert not list(tmp_path.glob("hub/**/*.bin"))
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    teacher = open_teacher(TeacherConfig(NAME, (("car",),)))
    assert teacher is not None
    assert teacher.spec.class_names == ("person", "car", "bus")
    config = StudentConfig("rt_detr", "imported", (64, 96), init=NAME)
    assert open_student(config, ("car",)).spec.class_names == ("car",)
    assert imported(NAME) == path
    assert hub.ranges == [""]


def test_a_download_that_breaks_off_goes_on_where_it_was(hub: Hub) -> None:
    hub.cuts = 2
    assert imported(NAME).is_file()
    first, *others = hub.ranges
    starts = [int(given.removeprefix("bytes=").removesuffix("-")) for given in others]
    assert first == ""
    assert 0 < starts[0] < starts[1] < len(hub.files[WEIGHTS])


def test_half_a_download_is_one_line_and_never_used(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = 1000
    with pytest.raises(ArtifactError, match=r"from the hub \(.*; try again, or without a") as e:
        imported(NAME)
    assert "\n" not in str(e.value)
    assert not list(tmp_path.glob("hub/**/snapshots/*/*.safetensors"))
    assert not list(tmp_path.glob("cache/**/*.safetensors"))
    hub.cuts = 0
    assert imported(NAME).is_file()
    (found,) = tmp_path.glob("hub/**/snapshots/*/*.safetensors")
    assert found.read_bytes() == hub.files[WEIGHTS]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("somebody/gated", "is gated on the hub: accept its terms at .*hf auth login and try"),
        ("somebody/missing", "is no folder here and no repository of the hub, or a private one"),
    ],
)
@pytest.mark.parametrize("use", [imported, local_file])
def test_a_refusal_of_the_hub_is_one_line(
    use: Callable[[str], Path], name: str, message: str
) -> None:
    with pytest.raises(ArtifactError, match=f"^{name} {message}") as e:
        use(name)
    assert "\n" not in str(e.value)


@pytest.mark.usefixtures("hub")
def test_a_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    with pytest.raises(ArtifactError, match="without a network, bring config") as e:
        imported(NAME)
    assert "\n" not in str(e.value)

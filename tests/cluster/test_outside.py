from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from launcher.cluster.findings import Level
from launcher.cluster.outside import outside, reachable, tokens


class Refusing(BaseHTTPRequestHandler):
    """Answers everything with 401, as a service does that wants a token."""

    def do_HEAD(self) -> None:
        self.send_error(401)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def server() -> Iterator[str]:
    listening = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def test_a_service_that_answers_is_reached_whatever_it_says(server: str) -> None:
    assert reachable(server, {}) is None
    # Through a proxy, too, which here is the service itself.
    assert reachable("http://service.example", {"http_proxy": server}) is None


def test_nothing_that_listens_is_told_with_the_reason() -> None:
    assert "refused" in str(reachable("http://127.0.0.1:1", {}))
    found = list(outside({"WANDB_BASE_URL": "http://127.0.0.1:1", "HF_ENDPOINT": "http://127.0.0.1:1"}))
    assert [one.level for one in found] == [Level.warning, Level.warning]


def test_tokens_are_found_and_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123456789\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    found = list(tokens({"HF_TOKEN": "hf_0123456789", "HF_HOME": str(tmp_path)}))
    assert [one.level for one in found] == [Level.ok, Level.ok]
    assert "0123456789" not in str(found)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert [one.level for one in tokens({"HF_HOME": str(tmp_path)})] == [Level.warning, Level.warning]

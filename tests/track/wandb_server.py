"""As much of a W&B server as `wandb sync` talks to; it keeps the history of one run."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Answers on a port of its own."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.history: list[str] = []
        """Lines of the run's history."""
        self.known = False
        """Whether the run has been made."""

    @property
    def address(self) -> str:
        """For WANDB_BASE_URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def values(self, name: str) -> dict[int, Any]:
        """One measure of the history, by step."""
        lines = [json.loads(line) for line in self.history]
        return {line["step"]: line[name] for line in lines if name in line}

    def told(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        if path.endswith("file_stream"):
            sent = document.get("files", {}).get("wandb-history.jsonl")
            if sent is not None:
                self.history[sent["offset"] :] = sent["content"]
            return {}
        query, variables = document.get("query", ""), document.get("variables", {})
        if "UpsertBucket" in query:
            bucket = {**self._bucket(variables.get("name")), "displayName": "it", "project": self._project()}
            new, self.known = not self.known, True
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": new}}}
        if "RunResumeStatus" in query:
            bucket = self._bucket(variables["name"]) if self.known else None
            return {"data": {"model": {**self._project(), "bucket": bucket}}}
        if "CreateRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.address}/put"} for name in variables["files"]]
            return {"data": {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}}
        return {"data": {}}

    def _project(self) -> dict[str, Any]:
        return {"id": "1", "name": "project", "entity": {"id": "1", "name": "entity"}}

    def _bucket(self, name: str | None) -> dict[str, Any]:
        counts = {"historyLineCount": len(self.history), "eventsLineCount": 0, "logLineCount": 0}
        tails = {"historyTail": json.dumps(self.history[-1:]), "eventsTail": "[]", "summaryMetrics": "{}"}
        return {"id": "1", "name": name, **counts, **tails, "config": "{}", "tags": [], "wandbConfig": '{"t": 1}'}


class _Request(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._say({})

    def do_PUT(self) -> None:
        self._body()
        self._say({})

    def do_POST(self) -> None:
        self._say(self.server.told(self.path, json.loads(self._body())))

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

    def _say(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def wandb_server() -> Iterator[Server]:
    """One that answers while the block runs."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from launcher.errors import UserError
from launcher.node.local_dir import use_local_dir


def test_temporary_files_go_to_the_nodes_own_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "before")
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", None)
    folder = tmp_path / "7" / "tmp"
    monkeypatch.setenv("LAUNCHER_LOCAL_DIR", str(folder))
    use_local_dir()
    assert Path(tempfile.mkdtemp()).parent == folder
    assert os.environ["TRITON_CACHE_DIR"] == str(folder / "triton")


def test_a_node_without_such_a_folder_names_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LAUNCHER_LOCAL_DIR", str(tmp_path / "file" / "tmp"))
    with pytest.raises(UserError, match=r"cluster\.local_dir"):
        use_local_dir()

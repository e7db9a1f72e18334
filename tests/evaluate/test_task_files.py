"""Task files reach the job with all that they name, and bring no code that nobody asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import NotFoundError, UserError
from launcher.evaluate.task_files import copy_tasks, digest, is_file

TASK = """
task: colours
dataset_path: json
dataset_kwargs:
  data_files: {test: data/colours.jsonl}
output_type: multiple_choice
doc_to_text: "{{question}}"
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with one task and its data."""
    folder = tmp_path / "mine"
    (folder / "data").mkdir(parents=True)
    (folder / "colours.yaml").write_text(TASK)
    (folder / "data" / "colours.jsonl").write_text('{"question": "?"}\n')
    return folder


def copied(folder: Path, *names: str, work_dir: Path | None = None) -> tuple[list[str], Path]:
    target = folder.parent / "copy"
    return copy_tasks(names, target, work_dir or folder), target


def test_words_with_a_slash_or_an_ending_are_files() -> None:
    assert [is_file(word) for word in ("hellaswag", "a.yaml", "x/y", "mmlu_stem")] == [False, True, True, False]


def test_a_task_is_copied_with_its_data_and_known_by_its_own_name(tasks: Path) -> None:
    names, target = copied(tasks, "colours.yaml")
    assert names == ["colours"]
    assert (target / "colours.yaml").read_text() == TASK
    assert (target / "data" / "colours.jsonl").read_text() == '{"question": "?"}\n'


def test_data_is_also_found_where_the_command_was_typed(tasks: Path) -> None:
    (tasks / "data").rename(tasks.parent / "data")
    _, target = copied(tasks, "mine/colours.yaml", work_dir=tasks.parent)
    assert (target / "data" / "colours.jsonl").is_file()


def test_included_files_and_functions_come_along(tasks: Path) -> None:
    (tasks / "base.yaml").write_text(TASK + "process_docs: !function own.keep\n")
    (tasks / "own.py").write_text("from helper import keep\n")
    (tasks / "helper.py").write_text("def keep(docs): return docs\n")
    (tasks / "colours.yaml").write_text("include: base.yaml\ntask: colours_hard\n")
    names, target = copied(tasks, "colours.yaml")
    assert names == ["colours_hard"]
    assert {path.name for path in target.iterdir()} == {"colours.yaml", "base.yaml", "own.py", "helper.py", "data"}


def test_python_files_that_nothing_names_stay(tasks: Path) -> None:
    (tasks / "thesis.py").write_text("")
    _, target = copied(tasks, "colours.yaml")
    assert not (target / "thesis.py").exists()


@pytest.mark.parametrize(
    "line",
    ["dataset_kwargs: {trust_remote_code: true}", "unsafe_code: true", "metadata: [{trust_remote_code: True}]"],
)
def test_others_code_is_refused_wherever_it_is_asked_for(tasks: Path, line: str) -> None:
    (tasks / "colours.yaml").write_text(f"task: colours\n{line}\n")
    with pytest.raises(UserError, match="neither yours"):
        copied(tasks, "colours.yaml")


def test_it_is_refused_in_included_files_too(tasks: Path) -> None:
    (tasks / "base.yaml").write_text("dataset_kwargs: {trust_remote_code: true}\n")
    (tasks / "colours.yaml").write_text("include: base.yaml\ntask: colours\n")
    with pytest.raises(UserError, match="neither yours"):
        copied(tasks, "colours.yaml")


def test_yaml_makes_no_objects(tasks: Path) -> None:
    (tasks / "colours.yaml").write_text("task: !!python/object/apply:os.system ['touch owned']\n")
    with pytest.raises(UserError, match="no YAML"):
        copied(tasks, "colours.yaml")


@pytest.mark.parametrize("name", ["../secret.jsonl", "data/../../secret.jsonl"])
def test_nothing_outside_the_folder_is_written(tasks: Path, name: str) -> None:
    (tasks.parent / "secret.jsonl").write_text("")
    (tasks / "colours.yaml").write_text(f"task: colours\ndataset_kwargs: {{data_files: {name}}}\n")
    with pytest.raises(UserError, match="leads out"):
        copied(tasks, "colours.yaml")


def test_what_is_missing_is_named(tasks: Path) -> None:
    with pytest.raises(NotFoundError, match=r"other\.yaml"):
        copied(tasks, "other.yaml")
    (tasks / "data" / "colours.jsonl").unlink()
    with pytest.raises(NotFoundError, match=r"colours\.jsonl"):
        copy_tasks(["colours.yaml"], tasks.parent / "second", tasks)


def test_a_file_that_names_no_task_is_refused(tasks: Path) -> None:
    (tasks / "colours.yaml").write_text("dataset_path: json\n")
    with pytest.raises(UserError, match="names no task"):
        copied(tasks, "colours.yaml")


def test_two_tasks_whose_data_has_one_name_are_not_mixed_up(tasks: Path) -> None:
    other = tasks.parent / "theirs"
    (other / "data").mkdir(parents=True)
    (other / "shapes.yaml").write_text(TASK.replace("colours\n", "shapes\n"))
    (other / "data" / "colours.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="rename one"):
        copied(tasks, "colours.yaml", "../theirs/shapes.yaml")


def test_the_digest_is_of_names_and_contents(tasks: Path) -> None:
    _, target = copied(tasks, "colours.yaml")
    first = digest(target)
    assert digest(target) == first
    (target / "data" / "colours.jsonl").write_text("{}\n")
    changed = digest(target)
    assert changed != first
    (target / "colours.yaml").rename(target / "other.yaml")
    assert digest(target) not in (first, changed)

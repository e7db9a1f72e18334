"""Where configs and recipes are found: the user's own folders first, the shipped ones last.

Owns the search order, from a checkout and from an installed wheel. Reads no file's content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import launcher
from launcher.errors import NotFoundError, Problem, UserError, closest_first

RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A recipe's name becomes part of the run's id, of its folder's name and of the Slurm job's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPath:
    """Folders in the order in which they are searched."""

    conf: tuple[Path, ...]
    """Roots of config groups."""
    recipes: tuple[Path, ...]
    """Folders of recipes."""

    def recipe_names(self) -> list[str]:
        """Every recipe that can be named."""
        files = (file.stem for folder in self.recipes for file in folder.glob("*.yaml"))
        return sorted({name for name in files if RECIPE_NAME.fullmatch(name)})

    def groups(self) -> list[str]:
        """Every config group."""
        return sorted(
            {
                folder.name
                for root in self.conf
                for folder in root.iterdir()
                if folder.is_dir() and folder.name[0] != "."
            }
        )

    def choices(self, group: str) -> list[str]:
        """What can be chosen in a group; names that start with `_` are building blocks."""
        files = [file for root in self.conf for file in (root / group).glob("*.yaml")]
        return sorted({file.stem for file in files if not file.name.startswith("_")})

    def require_recipe(self, name: str) -> None:
        """NotFoundError, with the nearest names, if there is no such recipe."""
        names = self.recipe_names()
        if name not in names:
            raise NotFoundError(
                Problem(
                    where=f"recipe {name!r}",
                    message="there is no such recipe in " + ", ".join(str(folder) for folder in self.recipes),
                    valid=", ".join(closest_first(name, names, limit=20)),
                )
            )


def shipped(folder: str) -> Path:
    """`conf` or `recipes` as installed inside the package, or beside it in a checkout."""
    package = Path(launcher.__file__).resolve().parent
    installed = package / folder
    return installed if installed.is_dir() else package.parent / folder


def search_path(config_dir: Path | None, work_dir: Path) -> SearchPath:
    """The search order for a command typed in `work_dir` with an optional `--config-dir`."""
    if config_dir is not None and not config_dir.is_dir():
        raise UserError(Problem(where="--config-dir", message=f"{config_dir} is not a folder"))
    conf: list[Path] = []
    recipes: list[Path] = []
    if config_dir is not None:
        conf.append(config_dir / "conf" if (config_dir / "conf").is_dir() else config_dir)
        recipes.append(config_dir / "recipes" if (config_dir / "recipes").is_dir() else config_dir)
    conf += [work_dir / "conf", shipped("conf")]
    recipes += [work_dir / "recipes", shipped("recipes")]
    return SearchPath(conf=_distinct(conf), recipes=_distinct(recipes))


def _distinct(folders: list[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))

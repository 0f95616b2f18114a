"""The workspace: the folder marked by nexa.toml, its folders, its `.env`, its files by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from nexa_core.documents import read_text
from nexa_core.errors import Place, UnknownNameError, WorkspaceError
from nexa_core.shipped import shipped_folder

__all__ = ["MARK", "Workspace", "find_workspace"]

MARK = "nexa.toml"
KINDS = {
    "gate": ("gates", ".yaml"),
    "prompt": ("prompts", ".md"),
    "pipeline": ("pipelines", ".yaml"),
}
"""Kind of file: its folder and the ending of its files."""

_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


@dataclass(frozen=True)
class Workspace:
    """Where a user's files lie. Without nexa.toml (`marked` is False) no code of it is ever run."""

    root: Path
    marked: bool

    @property
    def gates_path(self) -> Path:
        return self.root / "gates"

    @property
    def prompts_path(self) -> Path:
        return self.root / "prompts"

    @property
    def pipelines_path(self) -> Path:
        return self.root / "pipelines"

    @property
    def plugins_path(self) -> Path:
        return self.root / "plugins"

    @property
    def reviews_path(self) -> Path:
        return self.root / "reviews"

    @property
    def artifacts_path(self) -> Path:
        return self.root / "artifacts"

    def find_file(
        self,
        kind: str,
        name: str,
        offered: Mapping[str, Path] | None = None,
        place: Place | None = None,
    ) -> Path:
        """The file called `name`: the workspace's, else one offered by a plugin, else the shipped.

        Raises UnknownNameError with the nearest name. A name never leads out of its folder.
        """
        known = self.name_files(kind, offered)
        if name not in known:
            folder, ending = KINDS[kind]
            fix = f"Write {folder}/{name}{ending}, or `nexa init` for the shipped ones."
            raise UnknownNameError(kind, name, known, place, fix)
        return known[name]

    def name_files(self, kind: str, offered: Mapping[str, Path] | None = None) -> dict[str, Path]:
        """Every file of a kind by name, in the order of names; the workspace's own come first."""
        folder, ending = KINDS[kind]
        found = dict(_files_in(shipped_folder(folder), ending))
        found.update(offered or {})
        found.update(_files_in(self.root / folder, ending))
        return dict(sorted(found.items()))

    def find_pipeline(self, asked: str) -> Path:
        """The pipeline file that a person asked for: a path, or a name without an ending."""
        path = Path(asked)
        if path.is_file() or (path.suffix and path.is_absolute()):
            return path
        name = asked.removeprefix("pipelines/").removesuffix(".yaml")
        known = self.name_files("pipeline")
        if path.suffix and name in known:
            raise WorkspaceError(
                f"There is no file '{asked}' here.",
                f"Ask for the shipped one by name, `{name}`, or write its file with `nexa init`.",
            )
        if path.suffix:
            raise WorkspaceError(
                f"There is no file '{asked}'.", f"Pipelines here: {', '.join(known)}."
            )
        return self.find_file("pipeline", name)

    def load_environment(self, environment: MutableMapping[str, str] = os.environ) -> list[str]:
        """Add the variables of `.env` that the environment lacks; gives their names."""
        path = self.root / ".env"
        if not path.is_file():
            return []
        added = []
        for number, line in enumerate(read_text(path, WorkspaceError).splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            match = _ASSIGNMENT.fullmatch(text)
            if match is None:
                raise WorkspaceError(
                    f"Line {number} of '{path}' is no assignment.",
                    "Write NAME=VALUE.",
                    Place(str(path), number),
                )
            if match[1] not in environment:
                environment[match[1]] = _unquote(match[2])
                added.append(match[1])
        return added


def find_workspace(start: Path | str | None = None) -> Workspace:
    """The nearest folder upwards that holds nexa.toml, else `start` (the current folder) itself."""
    here = Path(start) if start is not None else Path.cwd()
    if not here.is_dir():
        raise WorkspaceError(f"There is no folder '{here}'.", "Name one that exists.")
    for folder in (here.resolve(), *here.resolve().parents):
        if (folder / MARK).is_file():
            _check_mark(folder / MARK)
            return Workspace(folder, marked=True)
    return Workspace(here.resolve(), marked=False)


def _check_mark(path: Path) -> None:
    """nexa.toml says which version of the layout it marks, and nothing else."""
    import tomllib

    try:
        settings = tomllib.loads(read_text(path, WorkspaceError))
    except tomllib.TOMLDecodeError as cause:
        raise WorkspaceError(
            f"'{path}' is no TOML: {cause}.", "It needs one line: nexa = 1"
        ) from cause
    unknown = sorted(settings.keys() - {"nexa"})
    if unknown:
        raise WorkspaceError(f"'{unknown[0]}' is no key of '{path}'.", "Its only key is nexa = 1.")
    if settings.get("nexa", 1) != 1:
        raise WorkspaceError(
            f"'{path}' is of version {settings['nexa']!r}, and this nexa reads version 1.",
            "Install a newer nexa-core.",
        )


def _files_in(folder: Path, ending: str) -> Iterator[tuple[str, Path]]:
    """Name and path of every file with an ending; READMEs and hidden files have no name."""
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob(f"*{ending}")):
        name = path.relative_to(folder).as_posix().removesuffix(ending)
        if path.is_file() and path.name != "README.md" and not re.search(r"(^|/)[._]", name):
            yield name, path


def _unquote(text: str) -> str:
    """A value of `.env`: quotes around it go, and a comment after an unquoted one."""
    text = text.strip()
    if len(text) >= 2 and text[0] in "'\"":
        end = text.find(text[0], 1)
        if end > 0:
            return text[1:end]
    return re.split(r"\s+#", text, maxsplit=1)[0]

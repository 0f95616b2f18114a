"""The files nexa ships: where they lie, in wheel or checkout, and a workspace made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from nexa_core.errors import WorkspaceError

__all__ = ["Scaffolded", "scaffold", "shipped_folder"]

FOLDERS = ("gates", "prompts", "pipelines")
EMPTY_FOLDERS = ("plugins", "artifacts", "reviews")

_MARK = """\
# This file marks a nexa workspace: gates/ prompts/ pipelines/ plugins/ reviews/ artifacts/.
nexa = 1
"""
_IGNORED = """\
# Keys belong in .env; runs are large and can be made again.
.env
artifacts/
__pycache__/
"""


class Scaffolded(NamedTuple):
    """A path of a new workspace, and whether it was made or was there already."""

    path: Path
    outcome: Literal["created", "kept"]


def shipped_folder(name: str) -> Path:
    """The shipped `gates`, `prompts` or `pipelines`: of the wheel, else the checkout's own."""
    package = Path(__file__).parent
    packaged = package / "_shipped" / name
    return packaged if packaged.is_dir() else package.parent / name


def scaffold(target: Path | str) -> list[Scaffolded]:
    """Make a workspace in a folder, from the shipped files; what exists is kept as it is.

    Raises WorkspaceError when the folder cannot be written.
    """
    root = Path(target)
    try:
        root.mkdir(parents=True, exist_ok=True)
        made = [_make_folder(root / name) for name in (*FOLDERS, *EMPTY_FOLDERS)]
        made += [_write_new(root / name, content) for name, content in _contents()]
    except FileExistsError as cause:
        raise WorkspaceError(
            f"'{cause.filename}' is a file where a workspace has a folder.",
            "Move it, or choose another folder.",
        ) from cause
    except OSError as cause:
        raise WorkspaceError(
            f"'{cause.filename or root}' cannot be written: {cause.strerror}.",
            "Choose a folder that you may write.",
        ) from cause
    return made


def _contents() -> Iterator[tuple[str, bytes]]:
    yield "nexa.toml", _MARK.encode()
    yield ".gitignore", _IGNORED.encode()
    for name in FOLDERS:
        folder = shipped_folder(name)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in (".yaml", ".md", ".json"):
                yield f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes()


def _make_folder(path: Path) -> Scaffolded:
    existed = path.is_dir()
    path.mkdir(exist_ok=True)
    return Scaffolded(path, "kept" if existed else "created")


def _write_new(path: Path, content: bytes) -> Scaffolded:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:  # exclusive: a file that appears meanwhile is kept too
            file.write(content)
    except FileExistsError:
        return Scaffolded(path, "kept")
    return Scaffolded(path, "created")

"""The files nexa ships, and a workspace made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa_core.errors import WorkspaceError
from nexa_core.pipeline import load_pipeline
from nexa_core.shipped import scaffold, shipped_folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_scaffold_holds_the_shipped_files(tmp_path: Path) -> None:
    """Gates, prompts and pipelines as shipped, the mark, and the empty folders."""
    scaffold(tmp_path / "new")
    for name in ("gates", "prompts", "pipelines"):
        assert tree(tmp_path / "new" / name) == tree(shipped_folder(name))
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names >= {"nexa.toml", ".gitignore", "plugins", "artifacts", "reviews"}
    assert ".env" in (tmp_path / "new" / ".gitignore").read_text().split()


def test_a_scaffold_never_overwrites(tmp_path: Path) -> None:
    """What is there is kept and said to be kept; a second time makes nothing."""
    (tmp_path / "pipelines").mkdir()
    mine = tmp_path / "pipelines" / "audit.yaml"
    mine.write_text("mine")
    outcomes = {one.path: one.outcome for one in scaffold(tmp_path)}
    assert (mine.read_text(), outcomes[mine]) == ("mine", "kept")
    assert outcomes[tmp_path / "nexa.toml"] == "created"
    before = tree(tmp_path)
    assert {one.outcome for one in scaffold(tmp_path)} == {"kept"}
    assert tree(tmp_path) == before


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    """A file where a folder belongs is named, and stays."""
    (tmp_path / "gates").write_text("mine")
    with pytest.raises(WorkspaceError, match="gates' is a file"):
        scaffold(tmp_path)
    assert (tmp_path / "gates").read_text() == "mine"


@pytest.mark.parametrize("path", sorted(shipped_folder("pipelines").glob("*.yaml")), ids=str)
def test_every_shipped_pipeline_loads(path: Path) -> None:
    """What a user starts from has no mistake and no warning, and is called as its file."""
    pipeline = load_pipeline(path)
    assert (pipeline.name, pipeline.warnings) == (path.stem, ())


@pytest.mark.parametrize("kind", ["prompts", "pipelines"])
def test_the_readme_names_every_shipped_file(kind: str) -> None:
    """A page that lists files lists all of them."""
    folder = shipped_folder(kind)
    text = (folder / "README.md").read_text()
    for path in folder.rglob("*"):
        if path.suffix in (".md", ".yaml") and path.name != "README.md":
            name = path.relative_to(folder)
            assert f"`{name if kind == 'pipelines' else name.with_suffix('')}`" in text

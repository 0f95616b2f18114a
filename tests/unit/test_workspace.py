"""The workspace: where it is, what is called what in it, and its keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nexa_core.errors import Place, UnknownNameError, WorkspaceError
from nexa_core.shipped import shipped_folder
from nexa_core.workspace import find_workspace

Write = Callable[[str, str], Path]


def test_the_mark_is_found_upwards(workspace_path: Path) -> None:
    """From any folder inside, the workspace is the folder of nexa.toml."""
    inner = workspace_path / "prompts" / "mine"
    inner.mkdir()
    workspace = find_workspace(inner)
    assert (workspace.root, workspace.marked) == (workspace_path.resolve(), True)
    assert workspace.reviews_path == workspace_path.resolve() / "reviews"


def test_without_a_mark_the_folder_itself_serves(tmp_path: Path) -> None:
    """Quietly, and marked as what it is."""
    workspace = find_workspace(tmp_path)
    assert (workspace.root, workspace.marked) == (tmp_path.resolve(), False)


@pytest.mark.parametrize(
    ("text", "says"),
    [("nexa = ", "no TOML"), ("nexa = 2", "version 2"), ("name = 'x'", "'name' is no key")],
)
def test_a_broken_mark_is_an_error(write: Write, text: str, says: str) -> None:
    """A workspace that cannot be understood is not guessed at."""
    with pytest.raises(WorkspaceError, match=says):
        find_workspace(write("nexa.toml", text).parent)


def test_names_are_found_in_order(workspace_path: Path, tmp_path: Path, write: Write) -> None:
    """The workspace's own file goes before a plugin's, that before the shipped."""
    workspace = find_workspace()
    shipped = shipped_folder("prompts") / "critic" / "pair.md"
    (workspace_path / "prompts" / "critic" / "pair.md").unlink()
    assert workspace.find_file("prompt", "critic/pair") == shipped
    offered = {"critic/pair": write("plugin/pair.md", "")}
    assert workspace.find_file("prompt", "critic/pair", offered) == offered["critic/pair"]
    own = write("prompts/critic/pair.md", "")
    assert workspace.find_file("prompt", "critic/pair", offered) == own


@pytest.mark.parametrize("name", ["critic/pear", "../secret", "/etc/passwd", "README", ""])
def test_a_name_leads_nowhere_else(workspace_path: Path, write: Write, name: str) -> None:
    """A name is looked up among names, never joined to a path."""
    write("secret.md", "x")
    with pytest.raises(UnknownNameError) as error:
        find_workspace().find_file("prompt", name, place=Place("p.yaml", 3))
    assert error.value.place == Place("p.yaml", 3)


def test_a_pipeline_is_asked_for_by_path_or_name(workspace_path: Path, write: Write) -> None:
    """A file that exists goes first, then the name; what is neither lists what there is."""
    workspace = find_workspace()
    file = write("pipelines/mine.yaml", "")
    assert workspace.find_pipeline("pipelines/mine.yaml") == Path("pipelines/mine.yaml")
    assert workspace.find_pipeline("mine") == file.resolve()
    (workspace_path / "pipelines" / "audit.yaml").unlink()
    assert workspace.find_pipeline("audit") == shipped_folder("pipelines") / "audit.yaml"
    with pytest.raises(WorkspaceError, match="by name, `audit`"):
        workspace.find_pipeline("pipelines/audit.yaml")
    with pytest.raises(WorkspaceError, match=r"There is no file 'absent\.yaml'"):
        workspace.find_pipeline("absent.yaml")
    with pytest.raises(UnknownNameError, match="Did you mean 'audit'"):
        workspace.find_pipeline("adit")


def test_keys_come_from_env_file_without_overriding(workspace_path: Path, write: Write) -> None:
    """Quotes, comments and `export` are understood; the names are told, not the values."""
    lines = [
        "# keys",
        "",
        "A_KEY=one # mine",
        "export B_KEY = 'two # 2'",
        'C_KEY="three"',
        "D_KEY=",
    ]
    write(".env", "\n".join(lines))
    environment = {"C_KEY": "already"}
    assert find_workspace().load_environment(environment) == ["A_KEY", "B_KEY", "D_KEY"]
    assert environment == {"A_KEY": "one", "B_KEY": "two # 2", "C_KEY": "already", "D_KEY": ""}


def test_a_broken_env_file_does_not_print_its_values(workspace_path: Path, write: Write) -> None:
    """The line is named, what stands there is not."""
    path = write(".env", "A=1\nsk-secret\n")
    with pytest.raises(WorkspaceError, match="Line 2") as error:
        find_workspace().load_environment({})
    assert error.value.place == Place(str(path.resolve()), 2)
    assert "sk-secret" not in str(error.value)

"""`nexa train DATASET`: a folder that was packaged, without a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa_core.actions.training import is_dataset, train_folder
from nexa_core.errors import UsageError
from nexa_core.workspace import find_workspace


def test_a_dataset_without_a_student_is_refused(tmp_path: Path) -> None:
    """What is missing is said before anything is loaded."""
    (tmp_path / "manifest.json").write_text("{}")
    assert is_dataset(str(tmp_path)) and not is_dataset("latest")
    with pytest.raises(UsageError, match="no student is named") as error:
        train_folder(tmp_path, workspace=find_workspace(), model=None)
    assert "--model" in error.value.fix


def test_a_setting_without_a_value_is_refused(tmp_path: Path) -> None:
    """NAME=VALUE, and nothing else."""
    with pytest.raises(UsageError, match="'epochs' is no setting"):
        train_folder(
            tmp_path, workspace=find_workspace(), model="local/nexa-tiny", options=["epochs"]
        )


@pytest.mark.parametrize("option", ["epoch=2", "rank=many"])
def test_options_are_the_methods_own(tmp_path: Path, option: str) -> None:
    """A mistyped name or value is named, and nothing is trained."""
    files = '{"files": {}, "inputs": "", "prompt_template": null, "chat": false, "marks": []}'
    (tmp_path / "manifest.json").write_text(files)
    with pytest.raises(UsageError, match=option.partition("=")[0]):
        train_folder(
            tmp_path, workspace=find_workspace(), model="local/nexa-tiny", options=[option]
        )
    assert not (tmp_path.parent / "training").exists()

"""Reads a pipeline from a file or from Python values, with what `--set` puts over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nexa_core.documents import parse_yaml, read_yaml
from nexa_core.errors import PipelineFileError, Place
from nexa_core.pipeline import paths
from nexa_core.pipeline.references import check_references
from nexa_core.pipeline.tree import Origin, Pipeline
from nexa_core.validation import validate


def load_pipeline(path: Path | str, sets: Sequence[str] = ()) -> Pipeline:
    """The pipeline in a file, with each `PATH=VALUE` of `sets` put over it in order.

    Raises PipelineFileError (or UnknownNameError) with file and line for every mistake.
    """
    document = read_yaml(path, PipelineFileError)
    if not isinstance(document.data, dict):
        raise PipelineFileError(
            f"'{path}' is no pipeline: it holds no keys.",
            "Begin with `nexa: 1`, `name: …` and `steps: […]`.",
            document.place(),
        )
    tree, written = _put_sets(document.data, sets)
    return build(tree, Origin(document, written))


def pipeline_from(data: Mapping[str, Any], sets: Sequence[str] = ()) -> Pipeline:
    """The pipeline that Python values declare, shaped as a file is."""
    tree, written = _put_sets(data, sets)
    return build(tree, Origin(None, written))


def from_resolved(data: Mapping[str, Any]) -> Pipeline:
    """The pipeline that `Pipeline.resolved` wrote: equal to the one that wrote it."""
    return pipeline_from(data)


def build(tree: Mapping[str, Any], origin: Origin) -> Pipeline:
    """A pipeline of plain values, its parts checked alone and against each other."""
    pipeline = validate(
        Pipeline,
        dict(tree),
        origin.place,
        PipelineFileError,
        name=lambda keys: paths.write_path(tuple(keys), tree),
    )
    pipeline._origin = origin
    check_references(pipeline, tree, origin)
    return pipeline


def _put_sets(
    tree: Mapping[str, Any], sets: Sequence[str]
) -> tuple[Mapping[str, Any], tuple[tuple[paths.Path, str], ...]]:
    written: list[tuple[paths.Path, str]] = []
    for text in sets:
        path, equals, value = text.partition("=")
        place = Place(f"--set {text}")
        if not equals or not path.strip():
            raise PipelineFileError(
                f"'--set {text}' sets nothing.",
                "Write --set PATH=VALUE, as in --set seed=3.",
                place,
            )
        keys = paths.find_keys(tree, path.strip(), tuple(Pipeline.model_fields), place)
        tree = paths.write_at(tree, keys, _read_value(value, place), place)
        written.append((keys, str(place)))
    return tree, tuple(written)


def _read_value(text: str, place: Place) -> Any:
    try:
        return parse_yaml(text, str(place), PipelineFileError).data
    except PipelineFileError as cause:  # a line within one value says nothing
        raise PipelineFileError(cause.problem, "Quote it for YAML.", place) from cause

"""Turns a spec and a user's options into the object that does the work."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nexa_core.errors import (
    CheckError,
    JudgeError,
    MissingExtraError,
    ModelError,
    NexaError,
    PipelineFileError,
    Place,
    PluginError,
    ScorerError,
    TrainerError,
    boundary,
)
from nexa_core.plugins.loading import Plugin
from nexa_core.specs import (
    CheckSpec,
    JudgeSpec,
    ModelSpec,
    Need,
    ScorerSpec,
    Spec,
    TrainerSpec,
)
from nexa_core.validation import Locate, validate

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["build_spec", "check_needs", "read_options"]

_ERRORS: dict[type[Spec], type[NexaError]] = {
    CheckSpec: CheckError,
    JudgeSpec: JudgeError,
    ModelSpec: ModelError,
    ScorerSpec: ScorerError,
    TrainerSpec: TrainerError,
}
_TITLES = {"torch": "PyTorch", "transformers": "Transformers", "trl": "TRL", "peft": "PEFT"}


def build_spec(
    spec: Spec, argument: Any, noun: str, plugin: Plugin | None = None, place: Place | None = None
) -> Any:
    """What `spec.build` makes of its one argument, with missing parts and failures attributed."""
    check_needs(spec, noun, plugin.distribution if plugin else "nexa-core", place)
    who = f"The {noun} '{spec.name}'" + (f" of plugin {plugin}" if plugin else "")
    try:
        with boundary(_ERRORS.get(type(spec), PluginError), who):
            return spec.build(argument)
    except NexaError as error:
        error.place = error.place or place
        raise


def read_options(
    spec: Spec,
    options: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
    noun: str,
    where: Place | Locate | None = None,
    error: type[NexaError] = PipelineFileError,
) -> BaseModel | None:
    """The validated options of a use, None where the spec has none.

    Fields that the options class declares and the user did not set are taken from `facts`; a fact
    that is a function is called for it.
    """
    locate = where if callable(where) else lambda _: where
    subject = f"{noun} '{spec.name}'"
    if spec.options is None:
        if options:
            raise error(
                f"The {subject} has no options, and '{next(iter(options))}' was set.",
                f"Write only `{spec.name}`.",
                locate(list(options)[:1]),
            )
        return None
    model = spec.options()
    known = {field.alias or name for name, field in model.model_fields.items()}
    told = {
        key: value() if callable(value) else value for key, value in facts.items() if key in known
    }
    filled = {key: value for key, value in told.items() if value is not None}
    return validate(model, {**filled, **(options or {})}, locate, error, subject)


def check_needs(spec: Spec, noun: str, distribution: str, place: Place | None = None) -> None:
    """Raise MissingExtraError, with the install line and its size, when an import is absent."""
    missing = [need for need in spec.needs if not _is_installed(need.module)]
    if not missing:
        return
    extras = dict.fromkeys(need.extra for need in missing)
    lines = [
        write_install_line([need for need in missing if need.extra == extra], distribution)
        for extra in extras
    ]
    verb = "is" if len(missing) == 1 else "are"
    raise MissingExtraError(
        f"The {noun} '{spec.name}' needs {' and '.join(map(_title, missing))}, "
        f"which {verb} not installed.",
        f"Install: {' and '.join(lines)}.",
        place,
    )


def write_install_line(needs: Sequence[Need], distribution: str = "nexa-core") -> str:
    """`pip install 'nexa-core[local]' (PyTorch 3 GB)` for needs of one extra."""
    sizes = ", ".join(f"{_title(need)} {need.size}" for need in needs)
    return f"pip install '{distribution}[{needs[0].extra}]' ({sizes})"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _title(need: Need) -> str:
    return _TITLES.get(need.module, need.module)

"""The check of secrets: the token patterns of detect-secrets, tried on texts that may hold one."""

from __future__ import annotations

import pkgutil
import re
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import as_array, read_text, require_option
from nexa_checks.verdicts import score_passing
from nexa_core import ScoreColumns

if TYPE_CHECKING:
    from nexa_checks.options import FieldOptions

ASKER = "check 'secrets'"
_LEFT_OUT = frozenset({"Public IP (ipv4)"})
_OWN = (
    ("Anthropic Key", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    ("OpenAI Key", r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,}"),
    ("OpenRouter Key", r"\bsk-or-(?:v1-)?[0-9a-f]{32,}"),
    ("Groq Key", r"\bgsk_[A-Za-z0-9]{40,}"),
    ("xAI Key", r"\bxai-[A-Za-z0-9]{60,}"),
    ("Google API Key", r"\bAIza[0-9A-Za-z_-]{35}\b"),
    ("GitHub Token", r"\bgithub_pat_[0-9A-Za-z_]{22,}"),
    ("Hugging Face Token", r"\bhf_[A-Za-z]{34}\b"),
    ("AWS Access Key", r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b"),
)
"""Forms that are newer than the library's."""


class Secrets:
    """Fails a text with a key or token of a known form; reasons name the kind, never the secret.

    Passwords and keys without a form of their own are out of its reach: guesses by entropy or by a
    word such as `password` would reject most texts about programming.
    """

    def __init__(self, options: FieldOptions) -> None:
        self.field = require_option(options.field, "field", ASKER)
        self.hint, self.patterns = _load_patterns()

    def score(self, table: pa.Table) -> ScoreColumns:
        text = as_array(read_text(table, self.field, ASKER))
        likely = pc.fill_null(pc.match_substring_regex(text, self.hint), False)
        named = [self._name(each) for each in text.filter(likely).to_pylist()]
        reason = pa.nulls(len(text), pa.string())
        reason = pc.replace_with_mask(reason, likely, pa.array(named, pa.string()))
        failed = pc.if_else(text.is_valid(), reason.is_valid(), pa.scalar(None, pa.bool_()))
        return ScoreColumns(score_passing(failed), failed, reason)

    def _name(self, text: str) -> str | None:
        kinds = (kind for kind, pattern in self.patterns if pattern.search(text))
        kind = next(kinds, None)
        return None if kind is None else f"holds a secret ({kind})"


@cache
def _load_patterns() -> tuple[str, tuple[tuple[str, re.Pattern[str]], ...]]:
    """One pattern for RE2 that meets every text with a secret, and each kind's own, which decides."""
    from detect_secrets import plugins
    from detect_secrets.plugins.base import RegexBasedDetector

    found = [(kind, re.compile(pattern)) for kind, pattern in _OWN]
    for module in pkgutil.iter_modules(plugins.__path__):
        loaded = vars(import_module(f"{plugins.__name__}.{module.name}")).values()
        classes = (each for each in loaded if isinstance(each, type))
        for each in (each for each in classes if issubclass(each, RegexBasedDetector)):
            detector: Any = each
            if isinstance(detector.secret_type, str) and detector.secret_type not in _LEFT_OUT:
                found += [(detector.secret_type, pattern) for pattern in detector.denylist]
    return "|".join(dict.fromkeys(_loosen(pattern) for _, pattern in found)), tuple(found)


def _loosen(pattern: re.Pattern[str]) -> str:
    """The pattern for RE2, which has no look-around: without it more texts match, never fewer."""
    text = re.sub(r"\(\?<?[=!](?:[^()\\]|\\.|\([^()]*\))*\)", "", pattern.pattern)
    text = re.sub(r"\{(\d+),\d{4}\}", r"{\1,}", text)
    return f"(?i:{text})" if pattern.flags & re.IGNORECASE else f"(?:{text})"

"""Asks an endpoint before anything is paid: is it there, is the key good, does it have the model."""

from __future__ import annotations

import difflib
import http.client
import json
import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexa_core import Unanswered
from nexa_openai.addresses import refuse_forbidden
from nexa_openai.keys import Secret

if TYPE_CHECKING:
    from nexa_core import Mode

PATIENCE_SECONDS = 5.0
_MOST_BYTES = 16 << 20
_MODES: Mapping[Mode, str | None] = {
    "schema": "structured_outputs",
    "tool": "tool_choice",
    "object": "response_format",
    "plain": None,
}
"""What OpenRouter's list calls that which each mode needs."""
_SENT_AS = {"repetition_penalty": "repetition_penalty", "reasoning_effort": "reasoning"}


@dataclass(frozen=True)
class Answer:
    """What a GET brought: a status and the parsed body, or why there was no answer."""

    status: int = 0
    body: Any = None
    problem: str = ""
    location: str = ""


@dataclass(frozen=True)
class Door:
    """An endpoint as it is asked beforehand. `lists` says that its list holds every model."""

    url: str
    provider: str
    model: str
    key: Secret
    key_name: str | None
    headers: Mapping[str, str] = field(default_factory=dict)
    lists: bool = True
    wants_key: bool = False


@dataclass(frozen=True)
class Finding:
    """What speaks against asking, and the model's entry in the endpoint's list, where it has one."""

    faults: tuple[str, ...] = ()
    entry: Mapping[str, Any] = field(default_factory=dict)

    def find_unsupported(self, sampling: Iterable[str]) -> list[str]:
        """The sampling keys that the entry, as OpenRouter's, says the model does not take."""
        supported = self.entry.get("supported_parameters")
        if not isinstance(supported, list) or not supported:
            return []
        refused = [key for key in sampling if _SENT_AS.get(key, key) not in supported]
        return [f"'{self.entry.get('id')}' does not take '{key}'" for key in refused]

    def find_modes(self) -> tuple[Mode, ...]:
        """The ways of asking for JSON that the entry allows; all where it says nothing."""
        supported = self.entry.get("supported_parameters")
        if not isinstance(supported, list) or not supported:
            return tuple(_MODES)
        return tuple(mode for mode, wants in _MODES.items() if wants in (None, *supported))


def check_door(door: Door) -> Finding:
    """Ask an endpoint for its models, and OpenRouter, whose list is public, for the key's state."""
    if door.wants_key and not door.key:
        return Finding((f"no key: set ${door.key_name}",))
    if door.provider == "openrouter":
        checked = _get(door, "/key")
        if checked.status in (401, 403):
            return Finding((_explain_key(door),))
    answer = _get(door, "/models")
    if answer.problem:
        return Finding((Unanswered(f"{door.url} does not answer: {answer.problem}"),))
    if answer.status in (401, 403):
        return Finding((_explain_key(door),))
    if 300 <= answer.status < 400:
        to = urlsplit(answer.location).hostname or "another path"
        return Finding((f"{door.url} sends on to {to}: write that as base_url",))
    names = _read_names(answer)
    if names is None:
        return _look_below(door) if not door.url.endswith("/v1") else Finding()
    return _find_model(door, names)


def _find_model(door: Door, entries: Mapping[str, Mapping[str, Any]]) -> Finding:
    wanted = door.model
    for name in (wanted, f"{wanted}:latest", wanted.partition(":")[0]):
        if name in entries:
            return Finding(entry=entries[name])
    single = any(entry.get("owned_by") == "llamacpp" for entry in entries.values())
    if not door.lists or single:
        return Finding()  # what is not listed may be there all the same
    near = difflib.get_close_matches(wanted, entries, n=3, cutoff=0.5) or sorted(entries)[:5]
    listed = f"nearest: {', '.join(near)}" if near else "it lists none"
    return Finding((f"there is no model '{wanted}' at {door.url} ({listed})",))


def _look_below(door: Door) -> Finding:
    """Whether the list stands under /v1, which was left out."""
    below = Door(f"{door.url}/v1", door.provider, door.model, door.key, door.key_name, door.headers)
    answer = _get(below, "/models")
    if _read_names(answer) is not None or answer.status in (401, 403):
        return Finding((f"the base_url lacks /v1: write {below.url}",))
    return Finding()


def _explain_key(door: Door) -> str:
    if door.key:
        return f"the key in ${door.key_name} is refused by {door.url}"
    where = f"set ${door.key_name}" if door.key_name else "name its variable in api_key_env"
    return f"no key: {door.url} wants one, {where}"


def _read_names(answer: Answer) -> dict[str, Mapping[str, Any]] | None:
    """The models of a list by name; None where the answer is no list."""
    entries = answer.body.get("data") if isinstance(answer.body, dict) else answer.body
    if answer.status != 200 or not isinstance(entries, list):
        return None
    return {one["id"]: one for one in entries if isinstance(one, dict) and _is_text(one.get("id"))}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _get(door: Door, path: str) -> Answer:
    """The answer to a GET, within the patience; asked in a thread, so that a loop may be running."""
    found: list[Answer] = []
    thread = threading.Thread(target=lambda: found.append(_ask(door, path)), daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    return found[0] if found else Answer(problem=f"nothing within {PATIENCE_SECONDS:g} s")


def _ask(door: Door, path: str) -> Answer:
    parts = urlsplit(door.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {"Accept": "application/json", "User-Agent": "nexa-core", **door.headers}
    if door.key:
        headers["Authorization"] = f"Bearer {door.key.reveal()}"
    try:
        host, port = parts.hostname or "", parts.port
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        refuse_forbidden([str(one[4][0]) for one in found])
        connection = kind(host, port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", parts.path + path, headers=headers)
            answer = connection.getresponse()
            text = door.key.hide_in(answer.read(_MOST_BYTES))
            location = answer.getheader("Location", "")
        finally:
            connection.close()
    except TimeoutError:
        return Answer(problem=f"nothing within {PATIENCE_SECONDS:g} s")
    except (OSError, http.client.HTTPException, ValueError) as cause:
        return Answer(problem=getattr(cause, "strerror", None) or str(cause) or "no HTTP")
    try:
        return Answer(answer.status, json.loads(text), location=location)
    except (ValueError, RecursionError):
        return Answer(answer.status, location=location)

"""Prompts: files with front matter, inline ones, and the small language of their templates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.errors import Place, PromptFileError
from nexa_core.pipeline import InlinePrompt
from nexa_core.prompts import Prompt, inline_prompt, parse_prompt, read_prompt
from nexa_core.records import Message
from nexa_core.shipped import shipped_folder
from nexa_core.templates import TemplateError, Text

Write = Callable[[str, str], Path]
SHIPPED = sorted(p for p in shipped_folder("prompts").rglob("*.md") if p.name != "README.md")


def prompt(body: str, **front: Any) -> Prompt:
    """A completions prompt with one input `x`, unless told otherwise."""
    keys = {"name": "a/b", "version": 1, "api": "completions", "inputs": "[x]", **front}
    lines = [f"{key}: {value}" for key, value in keys.items()]
    return parse_prompt("\n".join(["---", *lines, "---", body]), "p.md")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_prompt_renders(path: Path) -> None:
    """Each is found by its path, and its declared inputs are all it needs."""
    name = path.relative_to(shipped_folder("prompts")).with_suffix("").as_posix()
    found = read_prompt(path, name)
    options = {"a": "yes", "b": "no"} if found.positive else {}
    if found.criteria:
        options |= dict.fromkeys(("criteria", "flags", "rule"), "given by the judge")
    assert found.render(dict.fromkeys(found.inputs, "some text"), **options)


def test_the_body_is_used_as_it_is() -> None:
    """Leading lines and spaces stay; one newline at the end goes, a second stays."""
    assert prompt("\n  Q: {{ x }}\nA:\n").render({"x": "why"}) == "\n  Q: why\nA:"
    assert prompt("{{ x }}\n\n").render({"x": "why"}) == "why\n"


def test_a_chat_prompt_is_a_system_and_a_user_message() -> None:
    """Both are templates; without `system` there is one message."""
    with_system = prompt("Ask {{ x }}", api="chat", system="Be {{ x }}.")
    assert with_system.render({"x": "kind"}) == (
        Message("system", "Be kind."),
        Message("user", "Ask kind"),
    )
    assert prompt("Ask {{ x }}", api="chat").render({"x": "me"}) == (Message("user", "Ask me"),)


def test_what_a_caller_gives_goes_over_the_columns() -> None:
    """A critic's options are given, not columns."""
    critic = prompt("{{ x }} A) {{ a }} B) {{ b }}", positive='"yes"', negative='"no"')
    assert critic.render({"x": "q", "a": "column"}, a="yes", b="no") == "q A) yes B) no"


@given(st.text(max_size=30))
def test_a_value_is_never_read_as_a_template(text: str) -> None:
    """Whatever a row holds appears as it is."""
    assert prompt("<{{ x }}>").render({"x": "{{ 7 * 7 }}{% x %}" + text}) == (
        "<{{ 7 * 7 }}{% x %}" + text + ">"
    )


def test_templates_choose_and_repeat() -> None:
    """Tags on a line of their own leave no empty line."""
    body = "{% for m in x %}\n{{ loop.index }}. {{ m.text | upper }}\n{% endfor %}\nend"
    assert prompt(body).render({"x": [{"text": "a"}, {"text": "b"}]}) == "1. A\n2. B\nend"


@pytest.mark.parametrize(
    "body",
    [
        "{{ x.__class__ }}",
        "{{ x['__class__'] }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ x | attr('__class__') }}",
        "{{ x.upper() }}",
        "{{ [x] | map('upper') | list | map(attribute='__class__') | join }}",
        "{{ self.__init__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ lipsum() }}",
        "{% for i in range(99999) %}x{% endfor %}",
        "{{ x * 1000000000 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 9 ** 999999 }}",
        "{{ x | center(999999999) }}",
        "{{ [x] | map('center', 999999999) | join }}",
        "{% set x = x ~ x %}{{ x }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'x' %}",
        "{% macro f() %}{% endmacro %}",
        "{% for a in x %}{% for b in x %}{% for c in x %}x{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in x %}{% for b in x %}{{ x }}{% endfor %}{% endfor %}",
        "{{ x",
        "{{ x | nothing }}",
    ],
)
def test_a_template_can_do_nothing_else(body: str) -> None:
    """No attribute, no call, no growth without bound: an error with the line."""
    with pytest.raises(PromptFileError) as error:
        prompt(body).render({"x": "v" * 2000})
    assert error.value.place == Place("p.md", 7)


@pytest.mark.parametrize("body", ["{{ [x] | map('center', 9) }}", "{{ x | xmlattr }}"])
def test_filters_are_the_listed_ones(body: str) -> None:
    """Also where `map` takes one by name."""
    with pytest.raises(PromptFileError, match="No filter named"):
        prompt(body + "{{ x | map('center', 9) | list }}").render({"x": ["v"]})


def test_no_global_is_in_reach() -> None:
    """A name is a value that was given, or an error."""
    with pytest.raises(TemplateError):
        Text("{{ cycler }}").render({})


def test_only_plain_values_reach_a_template() -> None:
    """Any other object arrives as its text, so that none of its parts are in reach."""
    assert prompt("{{ x[0] }}").render({"x": b"a"}) == "b"
    assert prompt("{{ x }}").render({"x": Path("a/b")}) == "a/b"
    with pytest.raises(PromptFileError, match="no attribute 'name'"):
        prompt("{{ x.name }}").render({"x": Path("a/b")})


def test_a_missing_column_lists_the_rows_columns() -> None:
    """The error says what is needed, where, and what there is."""
    with pytest.raises(PromptFileError, match="needs a column 'x'") as error:
        prompt("line\n{{ x }}").render({"question": 1, "id": 2})
    assert error.value.fix == "The row has: id, question."
    assert error.value.place == Place("p.md", 8)


def test_a_null_is_not_written_as_none() -> None:
    """A null that would be inserted is an error; `or` gives it a text."""
    with pytest.raises(PromptFileError, match="column 'x' is null"):
        prompt("{{ x }}").render({"x": None})
    assert prompt("{{ x or 'nothing' }}").render({"x": None}) == "nothing"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("no front matter", 1, "has no front matter"),
        ("---\nname: a\n", 1, "does not end"),
        ("---\nname: a\n---\nx", 2, "'version' is missing"),
        ("---\nname: a\nversion: 1\ninput: [x]\n---\nx", 4, "'input' is no key"),
        ("---\nname: a\nversion: one\n---\nx", 3, "'one' does not work for 'version'"),
        ("---\nname: a\nname: b\n---\nx", 3, "'name' twice"),
        ("---\nname: a\nversion: 1\n---\n1\n{{ y }}", 6, "'y', which is not among its inputs"),
        ("---\nname: a\nversion: 1\n---\n1\n2\n{{ y", 7, "is no template"),
        ("---\nname: a\nversion: 1\npositive: x\n---\nx", 2, "go together"),
        ("---\nname: a\nversion: 1\napi: completions\nsystem: x\n---\nx", 2, "is for chat"),
    ],
)
def test_a_broken_file_is_named_with_its_line(text: str, line: int, says: str) -> None:
    """Lines count from the top of the file, front matter included."""
    with pytest.raises(PromptFileError) as error:
        parse_prompt(text, "p.md")
    assert says in error.value.problem
    assert error.value.place == Place("p.md", line)


def test_a_file_that_calls_itself_otherwise_is_refused(write: Write) -> None:
    """Its name is where it lies."""
    path = write("b.md", "---\nname: a\nversion: 1\n---\nx")
    with pytest.raises(PromptFileError, match="calls itself 'a' and is found as 'b'"):
        read_prompt(path, "b")


def test_the_hash_follows_what_is_rendered_and_asked() -> None:
    """Body, system, api, stop and answers change it; name, version and line ends do not."""
    first = prompt("{{ x }}\n")
    assert prompt("{{ x }}", name="c", version=2).hash == first.hash
    assert parse_prompt(first.text.replace("\n", "\r\n"), "p.md").hash == first.hash
    others = [prompt("{{ x }}!"), prompt("{{ x }}", api="chat"), prompt("{{ x }}", stop='["a"]')]
    others += [prompt("{{ x }}", positive="p", negative="n")]
    assert len({first.hash, *(one.hash for one in others)}) == 5


def test_an_inline_prompt_needs_what_it_uses() -> None:
    """`text` is completions, `user` is chat; its columns are found in its templates."""
    chat = inline_prompt(InlinePrompt(system="Be {{ tone }}.", user="{{ q }}"), "answer")
    assert (chat.name, chat.api, chat.inputs) == ("answer", "chat", ("q", "tone"))
    text = inline_prompt(InlinePrompt(text="Q: {{ q }}\nA:", stop=("\n",)), "answer")
    assert (text.render({"q": "why"}), text.stop) == ("Q: why\nA:", ("\n",))


def test_a_broken_inline_prompt_points_at_the_pipeline() -> None:
    """Its place is the step's."""
    with pytest.raises(PromptFileError) as error:
        inline_prompt(InlinePrompt(user="{{ q"), "answer", Place("p.yaml", 9))
    assert error.value.place == Place("p.yaml", 9)

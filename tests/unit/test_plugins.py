"""Plugins load alone, fail alone, and are named when they clash."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexa_core.errors import (
    CheckError,
    MissingExtraError,
    PipelineFileError,
    Place,
    PluginConflictError,
    PluginLoadError,
    UnknownNameError,
)
from nexa_core.events import WarningRaised
from nexa_core.pipeline import Role, load_pipeline
from nexa_core.plugins import Plugins, load_plugins
from nexa_core.workspace import find_workspace

Install = Callable[..., None]
DATA = Path(__file__).parent.parent / "data" / "plugins"
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "nexa_example_plugin"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts modules of tests/data/plugins into the environment, each its own distribution."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(DATA))

    def put(*modules: str, version: str = "1.2.0") -> None:
        for module in modules:
            folder = site / f"dist_{module}-{version}.dist-info"
            folder.mkdir()
            about = f"Metadata-Version: 2.1\nName: dist-{module}\nVersion: {version}\n"
            (folder / "METADATA").write_text(about)
            (folder / "entry_points.txt").write_text(f"[nexa]\n{module} = {module}\n")
        importlib.invalidate_caches()

    yield put
    for path in DATA.glob("*.py"):
        sys.modules.pop(path.stem, None)


def load() -> Plugins:
    return load_plugins(announce=lambda text: None)


def test_hook_register_checks(install: Install) -> None:
    """Specs come sorted by name, whatever the order of installation."""
    install("fits")
    names = load().checks.names()
    assert names == sorted(names)
    assert {"apple", "zebra"} <= set(names)


def test_what_is_installed_while_the_program_runs_is_found(install: Install) -> None:
    """A notebook that installs a plugin need not be started again."""
    before = load().checks.names()
    install("fits")
    assert {"apple", "zebra"} <= set(load().checks.names()) - set(before)


def test_hook_register_judges(install: Install) -> None:
    """A generator is run inside, so its specs are there like any other's."""
    install("fits")
    assert load().judges.get("strict").summary == "From a generator"


def test_hook_on_event(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    """A watcher that fails is reported once by name, and the others see every event."""
    install("raises_late", "fits")
    plugins = load_plugins()
    for _ in range(2):
        plugins.notify(WarningRaised("x"))
    assert sys.modules["fits"].SEEN == ["WarningRaised", "WarningRaised"]
    told = capsys.readouterr().err
    assert told.count("raises_late (dist-raises_late 1.2.0) failed on WarningRaised") == 1


def test_an_unknown_name_lists_what_is_installed(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the nearest name, and where it was asked for."""
    install("fits")
    with pytest.raises(UnknownNameError, match="Did you mean 'zebra'") as error:
        load().checks.get("zebre", Place("p.yaml", 4))
    assert error.value.place == Place("p.yaml", 4)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("broken_import", "No module named 'a_module_that_is_absent'"),
        ("typo", "there is no hook 'register_chekcs': did you mean 'register_checks'?"),
        ("wrong_argument", "evnt"),
        ("forgotten_mark", "mark its functions with @hookimpl"),
        ("wrapped", "hooks here are never wrapped"),
    ],
)
def test_a_broken_plugin_breaks_alone(install: Install, module: str, says: str) -> None:
    """Its reason is a warning and stands in the list; the others work."""
    install(module, "fits")
    plugins = load()
    assert any(says in warning and f"'{module}'" in warning for warning in plugins.warnings)
    (line,) = [line for line in plugins.listing() if line.name == module]
    assert (line.version, says in str(line.error)) == ("1.2.0", True)
    assert plugins.checks.get("apple")


def test_a_name_that_a_broken_plugin_may_provide_raises(install: Install) -> None:
    """Asked for by name, a plugin that did not load is an error that says which and why."""
    install("broken_import", "fits")
    with pytest.raises(PluginLoadError, match=r"broken_import.*a_module_that_is_absent"):
        load().checks.get("something_else_entirely")
    with pytest.raises(UnknownNameError, match="Did you mean 'zebra'"):
        load().checks.get("zebr")


def test_a_hook_that_fails_late_is_named(install: Install) -> None:
    """Of a generator that raises, nothing is taken: half a plugin is none."""
    install("raises_late", "fits")
    plugins = load()
    assert "early" not in plugins.checks.names()
    assert any("'register_checks' failed: RuntimeError: no more" in w for w in plugins.warnings)


def test_a_hook_that_hands_over_something_else_is_named(install: Install) -> None:
    """The type that came and the type that is wanted."""
    install("wrong_spec")
    assert any("it gave str where MetricSpec is wanted" in w for w in load().warnings)


def test_two_plugins_with_one_name_are_both_named(install: Install) -> None:
    """With distribution and version; only the contested name is affected."""
    install("fits", "clashes")
    plugins = load()
    with pytest.raises(PluginConflictError) as error:
        plugins.checks.get("apple")
    assert "clashes (dist-clashes 1.2.0) and by fits (dist-fits 1.2.0)" in error.value.problem
    assert plugins.checks.get("zebra")
    assert "apple" not in [spec.name for spec in plugins.checks.specs()]


def test_plugins_can_be_turned_off(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """NEXA_CORE_DISABLE_PLUGINS settles a conflict without uninstalling."""
    install("fits", "clashes")
    monkeypatch.setenv("NEXA_CORE_DISABLE_PLUGINS", "clashes, other")
    assert load().checks.get("apple").summary == "Takes options"


def test_options_are_validated_and_filled_from_facts(install: Install) -> None:
    """What the user set stays, what the class declares is filled, what it does not is left out."""
    install("fits")
    plugins = load()
    facts = {"field": "response", "raw_field": "response_raw_text", "tokens_field": "n"}
    built = plugins.build(plugins.checks.get("apple"), {"field": "mine"}, facts)
    assert built.model_dump() == {"limit": 3, "field": "mine", "raw_field": "response_raw_text"}


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("apple", {"limt": 3}, "'limt' is no key of check 'apple'"),
        ("apple", {"limit": "many"}, "'many' does not work for 'check 'apple' limit'"),
        ("zebra", {"limit": 3}, "The check 'zebra' has no options"),
    ],
)
def test_wrong_options_are_the_users_mistake(
    install: Install, name: str, options: dict[str, object], says: str
) -> None:
    """Named with the check, at its place in the pipeline."""
    install("fits")
    plugins = load()
    with pytest.raises(PipelineFileError) as error:
        plugins.build(plugins.checks.get(name), options, {}, Place("p.yaml", 8))
    assert says in error.value.problem
    assert error.value.place == Place("p.yaml", 8)


def test_a_wrong_option_is_named_by_its_own_line(
    install: Install, write: Callable[[str, str], Path]
) -> None:
    """Below the check's id in the pipeline, not only by the step."""
    install("fits")
    steps = (
        "steps:\n  - check:\n      - zebra\n      - apple:\n          limit: 1\n          limt: 2\n"
    )
    path = write("p.yaml", f"nexa: 1\nname: x\nsource: {{path: x}}\n{steps}")
    pipeline, plugins = load_pipeline(path), load()
    with pytest.raises(PipelineFileError) as error:
        plugins.build(
            plugins.checks.get("apple"), pipeline.checks[1].options, {}, pipeline.locate("apple")
        )
    assert error.value.place == Place(str(path), 9)


def test_a_failing_build_is_attributed(install: Install) -> None:
    """A plugin raises what it likes; the error says whose it is."""
    install("fits")
    plugins = load()
    with pytest.raises(CheckError, match=r"'breaks' of plugin fits \(dist-fits 1.2.0\) failed"):
        plugins.build(plugins.checks.get("breaks"))


def test_a_missing_part_has_its_install_line_and_size(install: Install) -> None:
    """The extra of the distribution that offers the spec."""
    install("fits")
    plugins = load()
    with pytest.raises(MissingExtraError) as error:
        plugins.build(plugins.checks.get("needy"))
    assert error.value.fix == "Install: pip install 'dist-fits[big]' (absent_x 3 GB)."


def test_an_unknown_provider_is_a_usage_error() -> None:
    """A role's provider is looked up among the installed ones."""
    with pytest.raises(UnknownNameError, match="Did you mean 'local'"):
        load().build_model(Role(model="locl/nexa-tiny"), Place("p.yaml", 5))


def test_a_fingerprint_follows_the_code(install: Install) -> None:
    """Name, distribution, version and a hash of the source."""
    install("fits")
    (found,) = [one for one in load().fingerprint() if one["name"] == "fits"]
    assert (found["distribution"], found["version"], len(found["hash"])) == (
        "dist-fits",
        "1.2.0",
        64,
    )


def test_listing_imports_nothing_heavy(install: Install) -> None:
    """`nexa plugins list` costs no torch, no pyarrow and no pydantic, example plugin included."""
    install("fits")
    code = (
        "import sys; from nexa_core.plugins import load_plugins; load_plugins().listing();"
        "heavy = {'torch', 'pyarrow', 'pydantic', 'numpy', 'transformers', 'jinja2', 'textual'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.strip() == "[]", output.stderr


class TestWorkspacePlugins:
    """Code beside nexa.toml."""

    SOURCE = (DATA / "clashes.py").read_text().replace("apple", "from_workspace")

    @pytest.fixture(autouse=True)
    def _forget(self) -> Iterator[None]:
        yield
        for name in ("mine", "mine.parts", "parted"):
            sys.modules.pop(name, None)

    def test_it_loads_with_a_notice_when_its_code_is_new(
        self, workspace_path: Path, write: Callable[[str, str], Path]
    ) -> None:
        """The first time and after every change, before it runs; not in between."""
        path = write("plugins/mine.py", self.SOURCE)
        told: list[str] = []
        for _ in range(2):
            assert "from_workspace" in load_plugins(announce=told.append).checks.names()
        assert len(told) == 1
        assert str(path.resolve()) in told[0]
        path.write_text(self.SOURCE + "# changed\n")
        load_plugins(announce=told.append)
        assert len(told) == 2

    def test_a_package_can_import_its_own_parts(
        self, workspace_path: Path, write: Callable[[str, str], Path]
    ) -> None:
        """By its own name, so that it moves to a distribution unchanged."""
        write("plugins/parted/parts.py", self.SOURCE)
        write("plugins/parted/__init__.py", "from parted.parts import register_checks\n")
        assert "from_workspace" in load().checks.names()

    def test_without_a_mark_or_permission_nothing_runs(
        self, workspace_path: Path, write: Callable[[str, str], Path]
    ) -> None:
        """Changing into a folder runs no code of it, and one flag turns it off."""
        write("plugins/mine.py", "raise SystemExit('I ran')")
        assert load_plugins(allow_workspace_plugins=False).workspace.marked
        (workspace_path / "nexa.toml").unlink()
        assert not load().workspace.marked

    def test_a_broken_one_names_its_file(
        self, workspace_path: Path, write: Callable[[str, str], Path]
    ) -> None:
        """It breaks alone, like any plugin."""
        path = write("plugins/mine.py", "1 / 0")
        assert any(
            f"ZeroDivisionError: division by zero in {path.resolve()}" in w for w in load().warnings
        )

    @pytest.mark.parametrize("name", ["json", "this"])
    def test_it_never_shadows_an_installed_module(
        self, workspace_path: Path, write: Callable[[str, str], Path], name: str
    ) -> None:
        """Loaded or not: `plugins/json.py` is refused, and json stays json."""
        write(f"plugins/{name}.py", self.SOURCE)
        assert any("give the plugin another name" in warning for warning in load().warnings)
        assert sys.modules["json"] is json

    def test_one_that_an_entry_point_provides_is_left_to_it(
        self, workspace_path: Path, install: Install, write: Callable[[str, str], Path]
    ) -> None:
        """In a checkout, `plugins/` holds what is installed from it."""
        install("fits")
        write("plugins/fits.py", "raise SystemExit('I ran')")
        plugins = load()
        assert "apple" in plugins.checks.names()
        assert not [warning for warning in plugins.warnings if "'fits'" in warning]


def test_files_of_plugins_are_found_by_name(install: Install, tmp_path: Path) -> None:
    """A prompt is read by the name a step gives; an unknown one is suggested."""
    plugins = load()
    assert plugins.prompt("critic/pair").positive == "yes"
    with pytest.raises(UnknownNameError, match="Did you mean 'critic/pair'"):
        plugins.file("prompt", "critic/pairs")


def test_the_example_plugin_works_as_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its three specs are found, take their facts, and do what its README says."""
    import asyncio

    import pyarrow as pa

    from nexa_core.records import Evidence

    folder = tmp_path / "nexa_example_plugin-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nexa-example-plugin\nVersion: 0.1.0\n"
    )
    (folder / "entry_points.txt").write_text("[nexa]\nnexa_example_plugin = nexa_example_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    plugins = load_plugins(find_workspace(tmp_path))
    table = pa.table({"answer": ["LOUD", "Quiet words", None]})
    facts = {"field": "answer"}
    check = plugins.build(plugins.checks.get("shouting"), {"limit": 0.3}, facts)
    assert check.score(table).failed.to_pylist() == [True, False, None]
    metric = plugins.build(plugins.metrics.get("shouting_rate"), {}, facts)
    assert metric.outcomes(table).to_pylist() == [True, False, None]
    samples = ({"id": "a", "response": "x"}, {"id": "b", "response": "x"})
    reviewer = plugins.build(plugins.reviewers.get("repetition"))
    opinion = asyncio.run(reviewer.review(Evidence(1, 5, (), {}, {}, samples), None))
    assert (opinion.veto, opinion.cites) == (True, ("a", "b"))

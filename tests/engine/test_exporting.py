"""Exports: a folder, a store and the hub get the same files; recipes are what their trainers read."""

from __future__ import annotations

import ast
import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core.actions.exporting import export_dataset
from nexa_core.engine.packaging import Origin, Packaging, package
from nexa_core.errors import ManifestError, StoreError, UsageError
from nexa_core.workspace import Workspace, find_workspace
from nexa_trl.exporters import Alpaca, Messages, Preference, PromptCompletion, ShareGPT


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "nexa.toml").write_text("nexa = 1\n")
    return find_workspace(tmp_path)


def make_dataset(folder: Path, exporter: Any = None, marks: tuple[str, ...] = ()) -> Path:
    exporter = exporter or Messages()
    rows = [
        {"instruction": f"Q{n}", "response": f"A{n}{side}", "id": f"{n}{side}", "reason": None,
         "source_id": f"s{n}", "state": "accepted", "scores": {"good": score}}
        for n in range(20) for side, score in (("x", 0.9), ("y", 0.2))
    ]  # fmt: skip
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    name = {"PromptCompletion": "prompt-completion"}.get(
        type(exporter).__name__, type(exporter).__name__.lower()
    )
    packaging = Packaging(
        exporter, name, "instruction", "response", exporter.template, 0.2, rank=("good",)
    )
    origin = Origin(runs=("r1",), name="demo", marks=marks)
    return package([folder / "rows.parquet"], folder / "dataset", packaging, origin).folder


def list_files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_a_folder_and_a_store_get_every_file(tmp_path: Path, workspace: Workspace) -> None:
    """Byte for byte; a place that is taken is refused, in a folder and in a store."""
    import fsspec

    made = make_dataset(tmp_path / "run")
    target = tmp_path / "out" / "here"
    export_dataset(str(made), f"dir:{target}", workspace=workspace)
    assert list_files(target) == list_files(made)
    url = f"memory://bucket-{os.getpid()}/set"
    export_dataset(str(made), url, workspace=workspace)
    system = fsspec.filesystem("memory")
    root = url.removeprefix("memory:/")
    assert {p.removeprefix(f"{root}/"): system.cat(p) for p in system.find(root)} == list_files(
        made
    )
    for place in (f"dir:{target}", url):
        with pytest.raises(UsageError, match="already"):
            export_dataset(str(made), place, workspace=workspace)


def test_a_store_that_does_not_answer_is_no_bug(tmp_path: Path, workspace: Workspace) -> None:
    """Nobody listens there: an error that names the place, whatever the driver raises."""
    made = make_dataset(tmp_path / "run")
    with pytest.raises(StoreError, match=r"The export to 'ftp://127\.0\.0\.1:9/set' failed"):
        export_dataset(str(made), "ftp://127.0.0.1:9/set", workspace=workspace)


def test_what_is_damaged_or_rehearsed_is_not_published(
    tmp_path: Path, workspace: Workspace
) -> None:
    """A file that is not what was packaged is an error; a rehearsal goes to no store and no hub."""
    rehearsed = make_dataset(tmp_path / "a", marks=("rehearsal",))
    for place in ("memory://x/y", "hub:me/x"):
        with pytest.raises(UsageError, match="rehearsal"):
            export_dataset(str(rehearsed), place, workspace=workspace)
    made = make_dataset(tmp_path / "b")
    (made / "train.jsonl").write_text("{}\n")
    with pytest.raises(ManifestError, match=r"train\.jsonl"):
        export_dataset(str(made), f"dir:{tmp_path / 'c'}", workspace=workspace)


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as an upload without large files asks for."""

    kept: dict[str, Any]

    def do_POST(self) -> None:
        body = self._read()
        if self.path.endswith("/repos/create"):
            self.kept["repo"] = json.loads(body)
            here = f"http://{self.headers['Host']}/datasets/me/set"
            return self._answer({"url": here, "name": "me/set"})
        if "/preupload/" in self.path:
            named = [f["path"] for f in json.loads(body)["files"]]
            files = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in named]
            return self._answer({"files": files})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.kept.setdefault("files", {})[value["path"]] = base64.b64decode(
                        value["content"]
                    )
            here = f"http://{self.headers['Host']}/datasets/me/set/commit/{'1' * 40}"
            done = {"commitUrl": here, "commitOid": "1" * 40}
            return self._answer({**done, "success": True})
        return self._answer({"errors": [], "warnings": []})

    def do_GET(self) -> None:
        self._answer({"id": "me/set", "sha": "0" * 40, "siblings": [], "private": True})

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, Any]]]:
    kept: dict[str, Any] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Kept", (Hub,), {"kept": kept}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", kept
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_the_hub_gets_a_private_repository(
    tmp_path: Path, workspace: Workspace, hub: tuple[str, dict[str, Any]]
) -> None:
    """Through huggingface_hub, to the hub that HF_ENDPOINT names: private, and every file."""
    pytest.importorskip("huggingface_hub")
    address, kept = hub
    made = make_dataset(tmp_path / "run")
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": address,
                   "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_XET": "1"}  # fmt: skip
    code = (
        "import sys; from nexa_core.actions.exporting import export_dataset as export\n"
        "from nexa_core.workspace import find_workspace\n"
        "export(sys.argv[1], 'hub:me/set', workspace=find_workspace('.'))"
    )
    command = [sys.executable, "-c", code, str(made)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert kept["repo"]["visibility"] == "private"
    assert kept["repo"]["type"] == "dataset"
    assert kept["files"] == list_files(made)


@pytest.mark.slow
def test_trl_reads_its_recipe(tmp_path: Path, workspace: Workspace) -> None:
    """trl's own parser takes every key of the recipe, and finds the data from that folder."""
    pytest.importorskip("trl")
    for number, exporter in enumerate((PromptCompletion(), Preference())):
        made = make_dataset(tmp_path / f"run{number}", exporter)
        export_dataset(str(made), f"dir:{tmp_path / f'out{number}'}", "trl", workspace=workspace)
    code = (
        "from trl import DPOConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser\n"
        "from datasets import load_dataset\n"
        "import os\n"
        "for folder, kind in (('out0', SFTConfig), ('out1', DPOConfig)):\n"
        "    os.chdir(folder)\n"
        "    parser = TrlParser((ScriptArguments, kind, ModelConfig))\n"
        "    script, training, model = parser.parse_args_and_config(\n"
        "        ['--config', 'train.yaml', '--use_cpu', 'true', '--bf16', 'false'])\n"
        "    rows = load_dataset(script.dataset_name)[script.dataset_train_split]\n"
        "    print(kind.__name__, training.learning_rate, model.lora_r, rows.column_names[0])\n"
        "    os.chdir('..')"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:2] == [
        "SFTConfig 0.0002 16 prompt",
        "DPOConfig 5e-06 16 prompt",
    ], done.stderr[-2000:]


def test_other_recipes_hold_together(tmp_path: Path, workspace: Workspace) -> None:
    """axolotl's is YAML that names the file and its fields, unsloth's compiles; others are refused."""
    from ruamel.yaml import YAML

    for number, exporter in enumerate((Messages(), ShareGPT(), Alpaca(), PromptCompletion())):
        made = make_dataset(tmp_path / f"run{number}", exporter)
        out = tmp_path / f"out{number}"
        export_dataset(str(made), f"dir:{out}", "axolotl", workspace=workspace)
        (data,) = YAML(typ="safe").load(out / "train.yaml")["datasets"]
        first = json.loads((out / data["path"]).read_text().split("\n")[0])
        kind = data["type"] if isinstance(data["type"], dict) else data
        fields = [value for key, value in kind.items() if key.startswith("field_")]
        assert set(fields) <= set(first)
    pairs = make_dataset(tmp_path / "pairs", Preference())
    with pytest.raises(UsageError, match="no form for the format 'preference'"):
        export_dataset(str(pairs), f"dir:{tmp_path / 'no'}", "axolotl", workspace=workspace)
    made = make_dataset(tmp_path / "chat")
    export_dataset(str(made), f"dir:{tmp_path / 'py'}", "unsloth", workspace=workspace)
    compile((tmp_path / "py" / "train.py").read_text(), "train.py", "exec")


@pytest.mark.weights
@pytest.mark.parametrize(
    "exporter", [Messages(), PromptCompletion()], ids=lambda e: type(e).__name__
)
def test_unsloths_recipe_learns_answers_alone(
    tmp_path: Path, workspace: Workspace, exporter: Any
) -> None:
    """Its `encode` gives what the trainer takes as it is: ids, and labels where the answer stands."""
    pytest.importorskip("transformers")
    from transformers import AutoTokenizer

    import nexa_tiny

    weights = next(Path(nexa_tiny.__file__).parent.rglob("*.safetensors")).parent
    tokenizer = AutoTokenizer.from_pretrained(weights)
    tokenizer.chat_template = (
        "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    made = make_dataset(tmp_path / "run", exporter)
    export_dataset(str(made), f"dir:{tmp_path / 'py'}", "unsloth", workspace=workspace)
    program = ast.parse((tmp_path / "py" / "train.py").read_text())
    program.body = [part for part in program.body if isinstance(part, ast.FunctionDef)]
    scope: dict[str, Any] = {"tokenizer": tokenizer, "json": json, "LONGEST": 2048}
    exec(compile(program, "train.py", "exec"), scope)
    first = json.loads((tmp_path / "py" / "dataset" / "train.jsonl").read_text().split("\n")[0])
    encoded = scope["encode"](first)
    learned = [one for one in encoded["labels"] if one != -100]
    said = first["completion"] if "completion" in first else first["messages"][-1]["content"]
    assert said in tokenizer.decode(learned) and len(learned) < len(encoded["input_ids"])
    assert encoded["input_ids"][-len(learned) :] == learned
    assert len(encoded["labels"]) == len(encoded["attention_mask"]) == len(encoded["input_ids"])


@pytest.mark.slow
def test_trl_trains_on_its_recipe_as_it_is(tmp_path: Path, workspace: Workspace) -> None:
    """`trl sft --config train.yaml` in the exported folder takes 20 steps; only the model is another."""
    pytest.importorskip("trl")
    import nexa_tiny

    weights = next(Path(nexa_tiny.__file__).parent.rglob("*.safetensors")).parent
    made = make_dataset(tmp_path / "run", PromptCompletion())
    export_dataset(str(made), f"dir:{tmp_path / 'out'}", "trl", workspace=workspace)
    code = (
        "import sys\n"
        "from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser\n"
        "from trl.scripts.sft import main\n"
        "from trl.scripts.utils import DatasetMixtureConfig\n"
        "parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))\n"
        "main(*parser.parse_args_and_config(['--config', 'train.yaml', *sys.argv[1:]]))"
    )
    changed = ["--model_name_or_path", str(weights), "--max_steps", "20", "--use_cpu", "true"]
    changed += ["--bf16", "false", "--gradient_accumulation_steps", "1"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", code, *changed],
        cwd=tmp_path / "out",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    state = json.loads(next((tmp_path / "out" / "student").rglob("trainer_state.json")).read_text())
    assert state["global_step"] == 20

# The verbs of this project. `just` alone lists them.

default:
    @just --list

# format, lint, types, layers, docs, tests
check: fix
    uv run ruff check
    uv run mypy
    uv run lint-imports
    uv run cog --check README.md docs/*.md
    uv run pytest

# format and mend what can be mended
fix:
    uv run ruff format
    uv run ruff check --fix

# the whole campaign on the embedded model
demo *args:
    uv run nexa demo {{args}}

test *args:
    uv run pytest {{args}}

# kills, faults and full disks, many times over; `--size nightly` for as many as are asked
torture *args:
    uv run python benchmarks/torture.py {{args}}

# speeds, each against a named peer or limit in the same run
bench name="checks":
    uv run python benchmarks/{{name}}.py

# write the generated parts of the documentation
docs:
    uv run cog -r README.md docs/*.md

# the versions this checkout was tested with, by hash
lock:
    uv export --all-extras --group dev --no-emit-project --no-annotate --no-header -q -o requirements.lock

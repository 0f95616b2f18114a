"""The pipeline's `package` section, with what it leaves open found, and refused where it cannot be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nexa_core.engine.column_checks import name_columns
from nexa_core.engine.dataset_rows import KEPT_COLUMNS, Packaging
from nexa_core.engine.items import bind_items
from nexa_core.engine.mixing import MixSource, Screen
from nexa_core.engine.plan import PROMPT_COLUMNS, Plan
from nexa_core.engine.sources import open_source
from nexa_core.errors import UsageError
from nexa_core.pipeline import CriticStep, JudgeStep, Package
from nexa_core.templates import TemplateError, compile_text

__all__ = ["bind_packaging", "check_packaging", "require_columns"]


def check_packaging(plan: Plan) -> Packaging | None:
    """Refuse, before anything is paid for, what the pipeline's `package` section cannot do.

    Raises:
        UsageError: The format, a column, the template or the evaluation items do not fit.
    """
    if plan.pipeline.package is None:
        return None
    made = {step.into for step in plan.pipeline.generate_steps}
    varied = {name for step in plan.pipeline.generate_steps for name in step.vary}
    columns = (*plan.source_columns, *sorted(made | varied))
    packaging = bind_packaging(plan, columns)
    require_columns(columns, packaging)
    _require_ranking(plan, packaging)
    try:
        unknown = compile_text(packaging.template).variables - {*columns, *KEPT_COLUMNS, "prompt"}
    except TemplateError as cause:
        unknown = frozenset({str(cause)})
    if unknown:
        raise UsageError(
            f"The template '{packaging.template}' makes no prompt: {min(unknown)!r}.",
            f"It may insert `prompt` and: {', '.join(columns)}.",
            plan.pipeline.place("package.template"),
        )
    return packaging


def bind_packaging(plan: Plan, columns: Sequence[str]) -> Packaging:
    """The pipeline's `package` section with everything it leaves open found."""
    pipeline = plan.pipeline
    settings = pipeline.package or Package()
    place = pipeline.place("package.format") if pipeline.package else None
    spec = plan.plugins.exporters.get(settings.format, place)
    exporter = plan.plugins.build(spec, settings.options, place=pipeline.locate("package"))
    items = bind_items(plan)
    prompt = settings.prompt or next((n for n in PROMPT_COLUMNS if n in columns), "prompt")
    completion = settings.completion or pipeline.answer_field(columns) or "response"
    return Packaging(
        exporter=exporter,
        format=settings.format,
        prompt=prompt,
        completion=completion,
        template=exporter.template if settings.template is None else settings.template,
        validation=settings.validation,
        seed=pipeline.seed,
        evaluation=items.texts if items else frozenset(),
        evaluation_name=items.name if items else None,
        best=bool(settings.best),
        rank=settings.rank or _ranking(plan),
        options=settings.options,
        mix=_open_mix(plan, settings, exporter.template),
        screens=_screen_mix(plan, settings, columns, (prompt, completion)),
        most=pipeline.scale.accepted if pipeline.scale else None,
    )


def _open_mix(plan: Plan, settings: Package, template: str) -> tuple[MixSource, ...]:
    """The files of `package.mix`, each there and of a kind that can be read."""
    place = plan.pipeline.place("package.mix") or plan.pipeline.place("package")
    if not settings.mix:
        return ()
    others = compile_text(settings.template or template).variables - {"prompt"}
    if others or settings.format == "preference":
        why = f"the template inserts '{min(others)}'" if others else "pairs are not mixed"
        raise UsageError(
            f"Other data cannot be mixed in: {why}, which its rows do not have.",
            "Take `mix` out, or write a template over `prompt` alone.",
            place,
        )
    folder = plan.plugins.workspace.root
    return tuple(
        MixSource(each.path, each.licence, each.share, open_source(each.path, folder, place), place)
        for each in settings.mix
    )


def _screen_mix(
    plan: Plan, settings: Package, columns: Sequence[str], pair: tuple[str, str]
) -> tuple[Screen, ...]:
    """The pipeline's checks that other data must pass too.

    Raises:
        UsageError: One reads columns that other data does not have.
    """
    if not settings.mix:
        return ()
    # A merged run's plan knows no columns but those of its shards.
    plan = replace(plan, source_columns=tuple(columns), built={})
    uses = [use for use in plan.pipeline.checks if plan.check_spec(use).mixed]
    uses = [use for use in uses if use.on_fail == "reject"]
    for use in uses:
        for option, name in name_columns(plan.check_spec(use), use.options):
            if name not in pair:
                raise UsageError(
                    f"The check '{use.id}' reads '{name}' (`{option}`), which rows of `mix` do not have.",
                    f"They have {pair[0]} and {pair[1]}: let it read these, or take `mix` out.",
                    plan.pipeline.place(use.id),
                )
    facts = {**plan.facts, "prompt_field": pair[0], "field": pair[1]}
    return tuple(
        Screen(
            use.id,
            plan.plugins.build(
                plan.check_spec(use), use.options, facts, plan.pipeline.locate(use.id)
            ),
            use.options,
        )
        for use in uses
    )


def _ranking(plan: Plan) -> tuple[str, ...]:
    """The scores of every judge and critic, by which answers are ranked."""
    steps = plan.pipeline.steps
    return tuple(step.id for step in steps if isinstance(step, JudgeStep | CriticStep))


def _require_ranking(plan: Plan, packaging: Packaging) -> None:
    """Refuse to choose among answers that nothing ranks."""
    if packaging.choosing is None:
        return
    unknown = sorted(set(packaging.rank) - set(plan.score_ids))
    if packaging.rank and not unknown:
        return
    what = f"no score is called '{unknown[0]}'" if unknown else "no judge or critic scores them"
    known = ", ".join(plan.score_ids)
    raise UsageError(
        f"The best of several answers cannot be chosen: {what}.",
        f"Set package.rank: [{known}]." if known else "Add a judge step.",
        plan.pipeline.place("package.rank" if unknown else "package"),
    )


def require_columns(columns: Sequence[str], packaging: Packaging) -> None:
    for key in ("prompt", "completion"):
        name = getattr(packaging, key)
        if name not in columns:
            shown = ", ".join(n for n in columns if n not in KEPT_COLUMNS)
            whole = key == "completion" and {"messages", "conversations"} & {*columns}
            raise UsageError(
                f"The rows have no column '{name}' to take the {key} from. They have: {shown}.",
                "A conversation is parted from its answer where the first row's ends with one; else give "
                f"the answers a column of their own, `{name}`, and leave the turns before where they are."
                if whole
                else f"Name one with --set package.{key}=COLUMN.",
            )

"""A rehearsal: any pipeline with every remote role answered by a local server that misbehaves, at no cost.

Limits, retries, prices and the budget work as in a real run; only the replies are nobody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from nexa_core.engine.budget import NANO
from nexa_core.engine.plan import Plan
from nexa_core.pipeline import Pipeline, Price, Role
from nexa_core.prices import is_local, rates_of

__all__ = ["PHASES", "STAND_IN", "rehearse", "serve_rehearsal"]

STAND_IN = "http://rehearsal.invalid/v1"
"""What stands in the run's record for the address of the server, which is another each time."""
PROVIDER = "rehearsal"
PHASES = ("pilot", "scale", "package")
"""What is rehearsed: to train on replies that are nobody's would cost time and prove nothing."""
LATENCY_SECONDS = 0.05
APPROVAL = 0.9
"""The share of a rehearsal's verdicts that approve: a gate has something to decide, and rows get through."""


def rehearse(pipeline: Pipeline) -> Pipeline:
    """The pipeline with every remote role at the rehearsal's server, at its real price."""
    values: dict[str, object] = {}
    for name, role in pipeline.models.items():
        if not is_local(role):
            values[f"models.{name}"] = _stand_in(role).model_dump(mode="json", exclude_none=True)
    return pipeline.with_values(values) if values else pipeline


@contextmanager
def serve_rehearsal(plan: Plan) -> Iterator[None]:
    """Answer the roles of a rehearsal while the block runs; for another plan nothing happens."""
    seats = [role for role in plan.pipeline.models.values() if role.base_url == STAND_IN]
    if not seats:
        yield
        return
    from nexa_core.testing.chaos import Faults, Settings, serve_in_process

    settings = Settings(
        seed=plan.pipeline.seed,
        models=tuple(dict.fromkeys(role.model for role in seats)),
        latency=LATENCY_SECONDS,
        jitter=LATENCY_SECONDS,
        retry_after=0.2,
        approval=APPROVAL,
        faults=replace(Faults.flaky(), rate_limit=0.002),
    )
    with serve_in_process(settings) as server:
        plan.models.addresses[STAND_IN] = server.url
        yield


def _stand_in(role: Role) -> Role:
    rates = rates_of(role)
    price = (
        None
        if rates is None
        else Price(
            input=rates.input / NANO,
            output=rates.output / NANO,
            cached_input=rates.cached_input / NANO,
        )
    )
    own = ("base_url", "api_key_env", "headers", "extra_body", "price", "fallbacks", "must_be")
    kept = role.model_dump(exclude={*own, "model"})
    return Role(model=f"{PROVIDER}/{role.model}", base_url=STAND_IN, price=price, **kept)

"""Who served the answers: read from provenance, compared with who should have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks.columns import Array, as_array, require_option
from nexa_checks.metrics import inside_gate
from nexa_core import CheckError

if TYPE_CHECKING:
    from nexa_checks.options import ServedByOptions

ASKER = "metric 'served_by_mix'"


class ServedByMix:
    """True where the server's name lacks what is expected; null where the reply names none."""

    def __init__(self, options: ServedByOptions) -> None:
        self.expect = require_option(options.expect, "expect", ASKER)
        self.step = require_option(options.answer_step, "answer_step", ASKER)

    def outcomes(self, table: pa.Table) -> Array:
        servers = read_servers(table, self.step)
        found = pc.match_substring(servers, self.expect, ignore_case=True)
        return inside_gate(table, pc.invert(found))


def read_servers(table: pa.Table, step: str) -> Array:
    """Who served one step of each row, null where nobody did or it is not known.

    Raises:
        CheckError: The table has no provenance.
    """
    if "provenance" not in table.column_names:
        raise CheckError(
            f"The {ASKER} reads provenance, which the table does not have.", "Ask a run's rows."
        )
    steps = as_array(pc.struct_field(table["provenance"], "steps"))
    flat, rows = pc.list_flatten(steps), pc.list_parent_indices(steps).to_numpy()
    wanted = pc.equal(pc.struct_field(flat, "step"), step).to_numpy(zero_copy_only=False)
    servers = np.full(len(table), None, dtype=object)
    served = pc.struct_field(flat, "served_by").to_numpy(zero_copy_only=False)
    servers[rows[wanted]] = served[wanted]
    return pa.array(servers, pa.string())

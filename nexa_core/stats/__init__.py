"""The statistics of gates and evaluations: pure functions, each with its source."""

from __future__ import annotations

from nexa_core.stats.agreement import (
    Cell,
    Confusion,
    Interval,
    agree,
    cohens_kappa,
    correct_rate,
    propose_threshold,
)
from nexa_core.stats.distinct import expected_distinct, expected_duplicates
from nexa_core.stats.drift import Rise, compare_rates
from nexa_core.stats.intervals import MeanInterval, clopper_pearson, student, wilson
from nexa_core.stats.paired import (
    PairedComparison,
    compare_pairs,
    holm,
    mcnemar,
    newcombe,
    pairs_needed,
    sign_flip,
)
from nexa_core.stats.planning import (
    Prediction,
    chance_to_pass,
    pass_by_row,
    predict_pass,
    rows_to_pass,
)
from nexa_core.stats.sequential import (
    ALTERNATIVES,
    bounds,
    e_above,
    e_below,
    log_e_above,
    log_e_below,
)

__all__ = [
    "ALTERNATIVES",
    "Cell",
    "Confusion",
    "Interval",
    "MeanInterval",
    "PairedComparison",
    "Prediction",
    "Rise",
    "agree",
    "bounds",
    "chance_to_pass",
    "clopper_pearson",
    "cohens_kappa",
    "compare_pairs",
    "compare_rates",
    "correct_rate",
    "e_above",
    "e_below",
    "expected_distinct",
    "expected_duplicates",
    "holm",
    "log_e_above",
    "log_e_below",
    "mcnemar",
    "newcombe",
    "pairs_needed",
    "pass_by_row",
    "predict_pass",
    "propose_threshold",
    "rows_to_pass",
    "sign_flip",
    "student",
    "wilson",
]

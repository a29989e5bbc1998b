"""Public names of ``stars_guard.evaluation``, and where each is at home."""

from stars_guard.evaluation.config import EvalPlan as EvalPlan
from stars_guard.evaluation.run import evaluate as evaluate

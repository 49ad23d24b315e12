"""One memory plan for all ranks: their machines may differ in what is free."""

from dataclasses import asdict

from tunesmith.train.core.plan import PLAN, MemoryPlan
from tunesmith.train.ranks.group import Ranks


def common_plan(mine: MemoryPlan, ranks: Ranks) -> MemoryPlan:
    """The plan that every rank has the memory for."""
    plans = [PLAN.validate_python(plan) for plan in ranks.of_all(asdict(mine))]
    return MemoryPlan(
        micro_batch_tokens=min(plan.micro_batch_tokens for plan in plans),
        activation_checkpointing=any(plan.activation_checkpointing for plan in plans),
        blocked_weights=all(plan.blocked_weights for plan in plans),
        unblocked=next((plan.unblocked for plan in plans if plan.unblocked), ""),
        both_directions=all(plan.both_directions for plan in plans),
        enough_tokens=min(plan.enough_tokens for plan in plans),
    )


def plan_of_first(plan: MemoryPlan, ranks: Ranks) -> MemoryPlan:
    """The plan that rank 0 has kept, which a resumed run follows."""
    return PLAN.validate_python(ranks.of_first(asdict(plan)))

"""What a protected alias has against a version, from facts alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from actors.modelhub.governance.models import Approval, Check, CheckState, Facts, Protection, Review, Threshold, Verdict


def latest_verdicts(reviews: Iterable[Review]) -> list[Review]:
    """The last verdict of each author since the last request; ``reviews`` come in order."""
    last: dict[UUID, Review] = {}
    for review in reviews:
        if review.verdict is Verdict.REQUEST:
            last.clear()
        else:
            last[review.author_id] = review
    return list(last.values())


def approvals(facts: Facts) -> tuple[str, ...]:
    """Who approves; the version's author counts only where the model allows it."""
    return tuple(
        review.author
        for review in latest_verdicts(facts.reviews)
        if review.verdict is Verdict.APPROVE and (facts.self_approval or review.author_id != facts.author_id)
    )


def approval(facts: Facts) -> Approval:
    """One who rejects weighs more than all who approve."""
    if any(review.verdict is Verdict.REJECT for review in latest_verdicts(facts.reviews)):
        return Approval.REJECTED
    if approvals(facts):
        return Approval.APPROVED
    return Approval.REQUESTED if any(review.verdict is Verdict.REQUEST for review in facts.reviews) else Approval.NONE


def obstacles(protection: Protection, facts: Facts) -> tuple[str, ...]:
    """What the version lacks to be named by the protected alias; nothing: it may be."""
    return tuple(_lacks(protection, facts))


def _lacks(protection: Protection, facts: Facts) -> Iterator[str]:
    if facts.deprecated:
        yield "it is deprecated"
    if protection.required_approvals:
        yield from _approvals_lack(protection.required_approvals, facts)
    checks = {check.name: check for check in facts.checks}
    for name in protection.required_checks:
        if name not in checks:
            yield f"check '{name}' has not been reported"
        elif checks[name].state is not CheckState.PASSED:
            yield f"check '{name}' is {checks[name].state}"
    for threshold in protection.thresholds:
        yield from _threshold_lacks(threshold, facts)


def _approvals_lack(needed: int, facts: Facts) -> Iterator[str]:
    for review in latest_verdicts(facts.reviews):
        if review.verdict is Verdict.REJECT:
            yield f"{review.author} rejected it: {review.reason}"
    if (given := len(approvals(facts))) < needed:
        yield f"{given} of {needed} needed people approved"


def _threshold_lacks(threshold: Threshold, facts: Facts) -> Iterator[str]:
    """Every check that measured the metric must keep the bound; where none did, the version's run."""
    measured = [(f"check '{check.name}'", check.metrics[threshold.metric]) for check in _measuring(facts.checks, threshold.metric)]
    if not measured and threshold.metric in facts.run_metrics:
        measured = [("its run", facts.run_metrics[threshold.metric])]
    if not measured:
        yield f"'{threshold}' is asked, and neither a check nor its run measured '{threshold.metric}'"
    for where, value in measured:
        if not threshold.holds(value):
            yield f"'{threshold}' is asked, and {where} measured {_shown(value)}"


def _measuring(checks: Sequence[Check], metric: str) -> list[Check]:
    return [check for check in checks if metric in check.metrics]


def _shown(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else str(value)

"""Whether a pull request may be merged, from facts alone."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from data_pipelines.dataforge.models import Protection
from data_pipelines.dataforge.pulls.models import Review, Verdict


def latest_verdicts(reviews: Iterable[Review]) -> list[Review]:
    """The last review of each author that is more than a comment; ``reviews`` come in order."""
    last: dict[UUID, Review] = {review.author_id: review for review in reviews if review.verdict is not Verdict.COMMENT}
    return list(last.values())


def approvals(reviews: Iterable[Review], head: UUID | None) -> tuple[str, ...]:
    """Who approves of ``head``; what was said of an earlier one counts no more."""
    return tuple(each.author for each in latest_verdicts(reviews) if each.verdict is Verdict.APPROVE and each.commit_id == head)


def review_obstacles(reviews: Iterable[Review], head: UUID | None, protection: Protection | None) -> list[str]:
    """What reviews leave to be done."""
    reviews = list(reviews)
    told = [f"{each.author} asks for changes" for each in latest_verdicts(reviews) if each.verdict is Verdict.REQUEST_CHANGES]
    needed, given = protection.required_approvals if protection else 0, len(approvals(reviews, head))
    if given < needed:
        told.append(f"{given} of {needed} needed people approved of the branch as it is")
    return told


def history_obstacles(source: str, target: str, protection: Protection | None, *, conflicts: int, up_to_date: bool) -> list[str]:
    """What the two branches leave to be done."""
    if conflicts:
        return [f"{conflicts} paths are in conflict: merge '{target}' into '{source}' and settle them there"]
    if protection and protection.required_checks and not up_to_date:
        return [f"'{source}' lacks commits of '{target}', so its checks do not speak of the result: merge '{target}' into it"]
    return []

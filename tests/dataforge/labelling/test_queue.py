"""The queue: who gets which task, what a lost browser leaves behind, what reviewers decide."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from uuid import UUID, uuid4

import pytest

from actors.securityvault.models import Scope
from aidos.schemas.dataforge.labelling import Consensus, QueueOrder, TaskState, Verdict
from cluster.events import list_events
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.labelling import service
from data_pipelines.dataforge.labelling.errors import (
    LabelInvalid,
    LabellingClosed,
    LabellingExists,
    LabellingNotFound,
    NoItems,
    NoTaskLeft,
    TaskDecided,
    TaskNotFound,
    TaskNotHeld,
    TaskNotReviewable,
    VersionNotFound,
)
from data_pipelines.dataforge.labelling.models import LabellingSpec, Prediction, SlotState, Source, Stage
from tests.dataforge.labelling.setting import CAT, DOG, KIND, OWL, Setting

pytestmark = pytest.mark.postgres


class TestProjects:
    async def test_have_a_task_for_each_file_and_keep_their_commit(self, pets: Setting) -> None:
        made = await pets.make(3)
        assert [task.item.path for task in await pets.tasks()] == ["0000.png", "0001.png", "0002.png"]
        async with pets.transaction() as conn:
            tag = await dataforge.get_commit(conn, pets.owner, "images", "labelling-pets")
            assert tag.id == made.commit_id
            await service.delete_labelling(conn, pets.owner, "pets")
            assert "labelling-pets" not in [ref.name for ref in await dataforge.list_refs(conn, pets.owner, "images")]
            with pytest.raises(LabellingNotFound, match="aidos labelling list"):
                await service.get_labelling(conn, pets.owner, "pets")

    async def test_are_refused_without_items_or_twice(self, pets: Setting) -> None:
        await pets.make(1)
        for spec, error in (
            (LabellingSpec("other", "images", "main", KIND, prefix="nothing/"), NoItems),
            (LabellingSpec("pets", "images", "main", KIND), LabellingExists),
        ):
            with pytest.raises(error):
                await service.create_labelling(pets.transaction, pets.transaction, pets.owner, pets.objects, spec)

    async def test_take_no_answers_once_closed(self, pets: Setting) -> None:
        await pets.make()
        ada = pets.annotator("ada")
        held = await pets.next(ada)
        await pets.call(service.update_labelling, pets.owner, "pets", {"closed": True})
        with pytest.raises(LabellingClosed):
            await pets.next(ada)
        with pytest.raises(LabellingClosed):
            await pets.submit(ada, held.id, CAT)
        await pets.call(service.update_labelling, pets.owner, "pets", {"closed": False})
        await pets.submit(ada, held.id, CAT)


class TestLeases:
    async def test_two_annotators_never_hold_the_same_slot(self, pets: Setting) -> None:
        await pets.make(2)
        ada, bob, cy = (pets.annotator(name) for name in ("ada", "bob", "cy"))
        assert (await pets.next(ada)).id != (await pets.next(bob)).id
        with pytest.raises(NoTaskLeft, match="2 are held"):
            await pets.next(cy)

    async def test_who_asks_again_goes_on_with_the_same_task(self, pets: Setting) -> None:
        await pets.make(5, overlap=2)
        ada = pets.annotator("ada")
        first = await pets.next(ada)
        again = await asyncio.gather(*(pets.next(ada) for _ in range(4)))
        assert {asked.id for asked in again} == {first.id}

    async def test_a_lost_browser_gives_its_task_back_with_the_draft_kept(self, pets: Setting) -> None:
        await pets.make(1)
        ada, bob = pets.annotator("ada"), pets.annotator("bob")
        lost = await pets.next(ada)
        await pets.call(service.save_draft, ada, "pets", lost.id, DOG)
        await pets.end_leases()
        taken = await pets.next(bob)
        assert taken.id == lost.id and taken.value is None
        for verb in (service.submit, service.save_draft):
            with pytest.raises(TaskNotHeld, match="Your draft is kept"):
                await pets.call(verb, ada, "pets", lost.id, CAT)
        await pets.call(service.release, bob, "pets", lost.id)
        back = await pets.next(ada)
        assert (back.id, back.value) == (lost.id, DOG)

    async def test_a_sign_of_life_keeps_the_task(self, pets: Setting) -> None:
        await pets.make(1)
        ada, bob = pets.annotator("ada"), pets.annotator("bob")
        held = await pets.next(ada)
        await pets.end_leases()
        renewed = await pets.call(service.renew_lease, ada, "pets", held.id)
        assert renewed.active
        await pets.end_leases()
        assert (await pets.call(service.save_draft, ada, "pets", held.id, CAT)).active
        with pytest.raises(NoTaskLeft):
            await pets.next(bob)

    async def test_twenty_annotators_at_once_answer_each_item_three_times_and_nobody_twice(self, pets: Setting) -> None:
        await pets.make(40, overlap=3)
        answered: dict[UUID, list[str]] = defaultdict(list)

        async def label(who: Scope) -> None:
            while True:
                try:
                    asked = await pets.next(who)
                except NoTaskLeft:
                    return
                answered[asked.id].append(who.principal.name)
                await pets.submit(who, asked.id, CAT)

        people = [pets.annotator(f"annotator-{at}") for at in range(20)]
        while sum(map(len, answered.values())) < 120:  # who finds all that is left held by others comes back for what is given back
            before = sum(map(len, answered.values()))
            await asyncio.gather(*(label(who) for who in people))
            assert sum(map(len, answered.values())) > before, "tasks are left that nobody is given"
        assert len(answered) == 40
        assert all(len(people) == 3 and len(set(people)) == 3 for people in answered.values())
        assert {task.state for task in await pets.tasks()} == {TaskState.DONE}
        assert all((task.taken, task.submitted) == (3, 3) for task in await pets.tasks())


class TestDraftsAndUndo:
    async def test_every_version_stays_and_any_can_be_gone_back_to(self, pets: Setting) -> None:
        await pets.make(1)
        ada = pets.annotator("ada")
        task = (await pets.next(ada)).id
        for value in (CAT, DOG, DOG, OWL):
            await pets.call(service.save_draft, ada, "pets", task, value)
        restored = await pets.call(service.restore_version, ada, "pets", task, 1)
        assert (restored.value, restored.version) == (CAT, 4)
        await pets.submit(ada, task, CAT)
        versions = await pets.call(service.list_versions, ada, "pets", task)
        assert [(each.stage, each.value) for each in versions] == [
            (Stage.DRAFT, CAT), (Stage.DRAFT, DOG), (Stage.DRAFT, OWL), (Stage.DRAFT, CAT), (Stage.SUBMITTED, CAT),
        ]  # fmt: skip
        with pytest.raises(VersionNotFound):
            await pets.call(service.restore_version, ada, "pets", task, 9)

    async def test_an_answer_can_be_given_anew(self, pets: Setting) -> None:
        await pets.make(1)
        ada = pets.annotator("ada")
        task = await pets.answer(ada, CAT)
        assert (await pets.task(task)).label == CAT
        await pets.call(service.save_draft, ada, "pets", task, OWL)
        assert (await pets.task(task)).label == CAT, "a draft of a new answer changes nothing yet"
        await pets.submit(ada, task, DOG)
        decided = await pets.task(task)
        assert (decided.label, decided.submitted, decided.source) == (DOG, 1, Source.CONSENSUS)

    async def test_a_draft_may_be_unfinished_and_an_answer_may_not(self, pets: Setting) -> None:
        await pets.make(1)
        ada = pets.annotator("ada")
        task = (await pets.next(ada)).id
        assert (await pets.call(service.save_draft, ada, "pets", task, {})).value == {}
        for wrong, field in (({}, "kind"), ({"kind": "fox"}, "kind"), ({"sort": "cat"}, "sort")):
            with pytest.raises(LabelInvalid) as refused:
                await pets.submit(ada, task, wrong)
            assert refused.value.fields["field"] == field and refused.value.status == 422


class TestSkipping:
    async def test_leaves_the_task_to_others_and_enough_skips_go_to_an_adjudicator(self, pets: Setting) -> None:
        await pets.make(1, most_skips=2)
        ada, bob, cy = (pets.annotator(name) for name in ("ada", "bob", "cy"))
        task = (await pets.next(ada)).id
        await pets.call(service.skip, ada, "pets", task, "blurred")
        with pytest.raises(NoTaskLeft):
            await pets.next(ada)
        assert (await pets.next(bob)).id == task
        await pets.call(service.skip, bob, "pets", task, "")
        with pytest.raises(NoTaskLeft):
            await pets.next(cy)
        assert (await pets.task(task)).state is TaskState.DISPUTED
        done, slots = await pets.call(service.review, pets.owner, "pets", task, Verdict.CORRECT, OWL, "")
        assert (done.label, done.source, done.decided_by) == (OWL, Source.REVIEW, "ada")
        assert [(slot.state, slot.reason) for slot in slots] == [(SlotState.SKIPPED, "blurred"), (SlotState.SKIPPED, "")]


class TestReview:
    async def test_accepts_what_the_annotators_agree_on(self, pets: Setting) -> None:
        await pets.make(1, overlap=2, review=True)
        ada, bob = pets.annotator("ada"), pets.annotator("bob")
        task = await pets.answer(ada, CAT)
        await pets.answer(bob, CAT)
        assert (await pets.task(task)).state is TaskState.REVIEW
        done, _ = await pets.call(service.review, pets.owner, "pets", task, Verdict.ACCEPT, None, "")
        assert (done.state, done.label, done.source) == (TaskState.DONE, CAT, Source.REVIEW)
        with pytest.raises(TaskDecided):
            await pets.submit(ada, task, DOG)

    async def test_adjudicates_what_they_do_not(self, pets: Setting) -> None:
        await pets.make(1, overlap=2, consensus=Consensus.ADJUDICATION)
        task = await pets.answer(pets.annotator("ada"), CAT)
        await pets.answer(pets.annotator("bob"), DOG)
        assert (await pets.task(task)).state is TaskState.DISPUTED
        assert [each.id for each in await pets.tasks(TaskState.DISPUTED)] == [task]
        with pytest.raises(TaskNotReviewable, match="disputed"):
            await pets.call(service.review, pets.owner, "pets", task, Verdict.ACCEPT, None, "")
        with pytest.raises(LabelInvalid):
            await pets.call(service.review, pets.owner, "pets", task, Verdict.CORRECT, {"kind": "fox"}, "")
        done, slots = await pets.call(service.review, pets.owner, "pets", task, Verdict.CORRECT, DOG, "it barks")
        assert (done.state, done.label) == (TaskState.DONE, DOG)
        assert [(slot.annotator, slot.value) for slot in slots] == [("ada", CAT), ("bob", DOG)]

    async def test_sends_a_task_back_with_a_comment(self, pets: Setting) -> None:
        await pets.make(1)
        ada = pets.annotator("ada")
        task = await pets.answer(ada, CAT)
        back, _ = await pets.call(service.review, pets.owner, "pets", task, Verdict.REJECT, None, "look again")
        assert (back.state, back.taken, back.submitted, back.label) == (TaskState.OPEN, 0, 0, None)
        again = await pets.next(ada)
        assert (again.id, again.comment, again.value) == (task, "look again", CAT)


class TestGold:
    async def test_questions_are_mixed_in_unseen_and_measure_annotators(self, pets: Setting) -> None:
        await pets.make(6, overlap=2, gold_every=3)
        gold = [task.id for task in (await pets.tasks())[:2]]
        for id in gold:
            await pets.call(service.set_gold, pets.owner, "pets", id, CAT)
        ada, bob = pets.annotator("ada"), pets.annotator("bob")
        asked = [await pets.answer(ada, DOG if at == 2 else CAT) for at in range(5)]
        assert [id in gold for id in asked] == [False, False, True, False, False]
        assert [await pets.answer(bob, CAT) in gold for _ in range(3)] == [False, False, True]
        _, counts, workloads = await pets.call(service.get_progress, pets.owner, "pets")
        assert (counts.gold, counts.tasks) == (2, 6)
        assert [(each.annotator, each.gold_asked, each.gold_right) for each in workloads] == [("ada", 1, 0), ("bob", 1, 1)]
        await pets.submit(ada, asked[2], CAT)  # thought again
        _, _, workloads = await pets.call(service.get_progress, pets.owner, "pets")
        assert (workloads[0].gold_asked, workloads[0].gold_right) == (1, 1)
        assert (await pets.task(asked[2])).label == CAT

    async def test_votes_count_as_much_as_their_gold_is_right(self, pets: Setting) -> None:
        await pets.make(9, overlap=3, consensus=Consensus.WEIGHTED, gold_every=1)
        tasks = await pets.tasks()
        for task in tasks[:8]:
            await pets.call(service.set_gold, pets.owner, "pets", task.id, CAT)
        for name, on_gold, on_task in (("ada", CAT, DOG), ("bob", OWL, CAT), ("cy", OWL, CAT)):
            who = pets.annotator(name)
            for _ in range(8):
                await pets.answer(who, on_gold)
            await pets.answer(who, on_task)
        decided = await pets.task(tasks[8].id)
        assert decided.label == DOG, "one who is right nine times in ten outweighs two who are wrong nine times in ten"


class TestPredictions:
    def predictions(self, *shares: float) -> list[Prediction]:
        return [
            Prediction(f"{at:04}.png", None, CAT, {"kind": {"cat": share, "dog": 1 - share}}, {}, "digits@1")
            for at, share in enumerate(shares)
        ]

    async def test_are_first_answers_and_order_the_queue_when_asked(self, pets: Setting) -> None:
        await pets.make(4)
        ada = pets.annotator("ada")
        assert await pets.call(service.post_predictions, pets.owner, "pets", self.predictions(0.9, 0.55, 0.7)) == 3
        await pets.call(service.rerank, pets.owner, "pets", QueueOrder.ENTROPY)
        order = []
        for _ in range(4):
            asked = await pets.next(ada)
            order.append(asked.item.path)
            assert asked.prelabel == (CAT if asked.item.path != "0003.png" else None)
            await pets.submit(ada, asked.id, CAT)
        assert order == ["0001.png", "0002.png", "0000.png", "0003.png"]

    async def test_that_come_later_take_their_place_at_once(self, pets: Setting) -> None:
        await pets.make(3)
        await pets.call(service.rerank, pets.owner, "pets", QueueOrder.LEAST_CONFIDENCE)
        await pets.call(service.post_predictions, pets.owner, "pets", self.predictions(0.9, 0.9, 0.5))
        assert (await pets.next(pets.annotator("ada"))).item.path == "0002.png"
        await pets.call(service.rerank, pets.owner, "pets", QueueOrder.LISTED)
        assert (await pets.next(pets.annotator("bob"))).item.path == "0000.png"


class TestWhatOthersSee:
    async def test_a_task_is_its_annotators_alone(self, pets: Setting) -> None:
        await pets.make(2)
        ada, bob = pets.annotator("ada"), pets.annotator("bob")
        task = await pets.answer(ada, CAT)
        for who, id in ((bob, task), (ada, uuid4())):
            for verb, arguments in ((service.get_mine, (pets.objects, "pets", id)), (service.list_versions, ("pets", id))):
                with pytest.raises(TaskNotFound):
                    await pets.call(verb, who, *arguments)
            with pytest.raises(TaskNotFound):
                await pets.submit(who, id, CAT)
        mine = await pets.call(service.list_mine, ada, "pets", None, 10)
        assert [(turn.task_id, turn.state) for turn in mine] == [(task, SlotState.SUBMITTED)]

    async def test_each_change_is_an_event_of_the_project(self, pets: Setting) -> None:
        made = await pets.make(1)
        await pets.answer(pets.annotator("ada"), CAT)
        async with pets.transaction() as conn:
            events = [event for event in await list_events(conn, after_seq=0) if event.subject == str(made.id)]
        assert Counter(event.type for event in events) == {"dataforge.labelling.created": 1, "dataforge.labelling.submitted": 1}


class TestFigures:
    async def test_agreement_and_quality_come_from_the_answers(self, pets: Setting) -> None:
        await pets.make(6, overlap=3)
        for name, answers in (
            ("ada", [CAT, DOG, OWL, CAT, DOG, OWL]),
            ("bob", [CAT, DOG, OWL, CAT, DOG, CAT]),
            ("cy", [CAT, CAT, OWL, CAT, DOG, OWL]),
        ):
            who = pets.annotator(name)
            for answer in answers:
                await pets.answer(who, answer)
        (found,) = await pets.call(service.get_agreement, pets.owner, "pets")
        assert (found.items, found.annotators, [pair.items for pair in found.pairs]) == (6, 3, [6, 6, 6])
        # By hand: observed (4 + 2/3) / 6, by chance (8² + 5² + 5²) / 18²; α with 17 in place of 18 once.
        observed, chance = (4 + 2 / 3) / 6, 114 / 324
        assert found.fleiss == pytest.approx((observed - chance) / (1 - chance))
        assert found.alpha == pytest.approx(1 - (1 - observed) / (210 / (18 * 17)))
        assert found.pairs[0].kappa == pytest.approx(0.75)
        quality = {each.annotator: each for each in await pets.call(service.list_annotators, pets.owner, "pets")}
        assert quality["ada"].consensus == 1 and quality["bob"].consensus == pytest.approx(5 / 6)
        assert quality["ada"].accuracy > quality["bob"].accuracy

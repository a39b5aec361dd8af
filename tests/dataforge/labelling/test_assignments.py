"""A lead gives tasks to certain annotators: they come first for these, and nobody else takes their place."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from actors.securityvault.models import Scope
from aidos.client import Client
from aidos.schemas.dataforge.labelling import TaskState, Verdict
from data_pipelines.dataforge.labelling import service
from data_pipelines.dataforge.labelling.errors import AnnotatorUnknown, NoTaskLeft, TaskHasNoSlot, TaskNotFound
from data_pipelines.dataforge.labelling.models import Task
from tests.dataforge.labelling.setting import CAT, DOG, Setting

pytestmark = pytest.mark.postgres


async def introduce(pets: Setting, *names: str) -> None:
    """Let annotators look at the project once, so that it knows them."""
    for name in names:
        asked = await pets.next(PEOPLE.setdefault(name, pets.annotator(name)))
        await pets.call(service.release, PEOPLE[name], "pets", asked.id)


PEOPLE: dict[str, Scope] = {}


@pytest.fixture(autouse=True)
def people() -> None:
    PEOPLE.clear()


async def assign(pets: Setting, name: str, *tasks: Task | UUID) -> list[Task]:
    ids = [task.id if isinstance(task, Task) else task for task in tasks]
    found: list[Task] = await pets.call(service.assign, pets.owner, "pets", name, ids)
    return found


class TestAssign:
    async def test_gives_the_task_to_that_annotator_before_any_other(self, pets: Setting) -> None:
        await pets.make(4)
        await introduce(pets, "ada", "bob")
        tasks = await pets.tasks()
        (assigned,) = await assign(pets, "ada", tasks[2])
        assert (assigned.assignees, assigned.reserved) == (["ada"], 1)
        assert [await pets.answer(PEOPLE["bob"], CAT) for _ in range(3)] == [tasks[0].id, tasks[1].id, tasks[3].id]
        with pytest.raises(NoTaskLeft):
            await pets.next(PEOPLE["bob"])
        assert await pets.answer(PEOPLE["ada"], CAT) == tasks[2].id
        assert {task.state for task in await pets.tasks()} == {TaskState.DONE}

    async def test_keeps_one_slot_and_leaves_the_others(self, pets: Setting) -> None:
        await pets.make(1, overlap=2)
        await introduce(pets, "ada", "bob", "cy")
        (task,) = await pets.tasks()
        await assign(pets, "ada", task)
        await pets.answer(PEOPLE["bob"], CAT)
        with pytest.raises(NoTaskLeft):
            await pets.next(PEOPLE["cy"])
        await pets.answer(PEOPLE["ada"], CAT)
        assert (await pets.task(task.id)).label == CAT

    async def test_survives_a_lost_browser(self, pets: Setting) -> None:
        await pets.make(1)
        await introduce(pets, "ada", "bob")
        (task,) = await pets.tasks()
        await assign(pets, "ada", task)
        await pets.next(PEOPLE["ada"])
        assert (await pets.task(task.id)).reserved == 0
        await pets.end_leases()
        with pytest.raises(NoTaskLeft):
            await pets.next(PEOPLE["bob"])
        assert (await pets.next(PEOPLE["ada"])).id == task.id
        await pets.call(service.release, PEOPLE["ada"], "pets", task.id)
        with pytest.raises(NoTaskLeft):
            await pets.next(PEOPLE["bob"])

    async def test_ends_when_the_annotator_skips_the_task(self, pets: Setting) -> None:
        await pets.make(1)
        await introduce(pets, "ada", "bob")
        (task,) = await pets.tasks()
        await assign(pets, "ada", task)
        await pets.next(PEOPLE["ada"])
        await pets.call(service.skip, PEOPLE["ada"], "pets", task.id, "blurred")
        assert (await pets.task(task.id)).assignees == []
        await assign(pets, "ada", task)  # the lead insists
        assert (await pets.next(PEOPLE["ada"])).id == task.id

    async def test_comes_back_when_a_reviewer_rejects_the_answer(self, pets: Setting) -> None:
        await pets.make(1, review=True)
        await introduce(pets, "ada", "bob")
        (task,) = await pets.tasks()
        await assign(pets, "ada", task)
        await pets.answer(PEOPLE["ada"], CAT)
        await pets.call(service.review, pets.owner, "pets", task.id, Verdict.REJECT, None, "look again")
        with pytest.raises(NoTaskLeft):
            await pets.next(PEOPLE["bob"])
        assert (await pets.next(PEOPLE["ada"])).comment == "look again"

    async def test_is_undone_by_unassigning(self, pets: Setting) -> None:
        await pets.make(2)
        await introduce(pets, "ada", "bob")
        tasks = await pets.tasks()
        await assign(pets, "ada", *tasks)
        with pytest.raises(NoTaskLeft):
            await pets.next(PEOPLE["bob"])
        await pets.call(service.unassign, pets.owner, "pets", "ada", [tasks[1].id])
        assert await pets.answer(PEOPLE["bob"], DOG) == tasks[1].id

    async def test_is_refused_as_a_whole(self, pets: Setting) -> None:
        await pets.make(3)
        await introduce(pets, "ada", "bob")
        done = await pets.answer(PEOPLE["bob"], CAT)
        held = (await pets.next(PEOPLE["bob"])).id
        free = next(task.id for task in await pets.tasks() if task.id not in (done, held))
        for tasks, error, reason in (
            ((free, done), TaskHasNoSlot, "is done"),
            ((free, held), TaskHasNoSlot, "has 1 slots"),
            ((free, uuid4()), TaskNotFound, "There is no task"),
        ):
            with pytest.raises(error, match=reason):
                await assign(pets, "ada", *tasks)
        with pytest.raises(AnnotatorUnknown, match="'aidos member put'"):
            await assign(pets, "nobody", free)
        assert [task.assignees for task in await pets.tasks()] == [[], [], []]

    async def test_of_leads_and_annotators_at_once_no_slot_is_given_twice(self, pets: Setting) -> None:
        await pets.make(20)
        await introduce(pets, "ada", *(f"other-{n}" for n in range(5)))
        tasks = await pets.tasks()

        async def label(name: str) -> None:
            while True:
                try:
                    await pets.answer(PEOPLE[name], CAT)
                except NoTaskLeft:
                    return

        async def lead() -> set[UUID]:
            kept = set()
            for task in reversed(tasks):
                try:
                    await assign(pets, "ada", task)
                    kept.add(task.id)
                except TaskHasNoSlot:
                    pass
            return kept

        kept, *_ = await asyncio.gather(lead(), *(label(f"other-{n}") for n in range(5)))
        assert all(task.taken + task.reserved <= 1 for task in await pets.tasks())
        await label("ada")
        for task in await pets.tasks():
            assert (task.state, task.taken) == (TaskState.DONE, 1)
            _, slots = await pets.call(service.get_task, pets.owner, "pets", task.id)
            assert (task.id in kept) == ([slot.annotator for slot in slots if slot.submitted_at] == ["ada"])


async def test_a_member_who_has_not_begun_is_named_by_the_account(client: Client) -> None:
    def tell() -> None:
        client.datasets.create(name="pets")
        client.datasets.commit("pets", message="", add=[{"path": "a.txt", "sha256": EMPTY, "size_bytes": 0}])
        client.labelling.create("kinds", dataset="pets", questions={"questions": [{"name": "kind", "kind": "text"}]})
        user = client.users.create(email="cy@example.org")
        with pytest.raises(AnnotatorUnknown):
            client.labelling.assign("kinds", user.name, tasks=[task.id for task in client.labelling.tasks("kinds")])
        client.members.put(user.name, role="annotator")
        tasks = list(client.labelling.tasks("kinds"))
        assert client.labelling.assign("kinds", user.name, tasks=[task.id for task in tasks]).tasks == 1
        (task,) = client.labelling.tasks("kinds")
        assert (task.assignees, task.reserved) == ([user.name], 1)
        assert client.labelling.unassign("kinds", user.name, tasks=[task.id]).tasks == 1

    await asyncio.to_thread(tell)


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

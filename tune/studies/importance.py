"""How much each parameter matters: functional ANOVA (Hutter et al., ICML 2014) as Optuna computes it, in a process of its own.

It takes seconds of processor and 100 MB that a gateway must not spend on its event loop: ``fanova.py`` is the program.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence

from aidos.errors import Unavailable
from aidos.schemas.studies import Parameter
from tune.studies.models import Trial

MOST_TRIALS = 500
"""The newest so many: the time grows faster than their number."""
_PROGRAM = "tune.studies.fanova"
_TIMEOUT_S = 25.0
_one_at_a_time = asyncio.Semaphore(1)


async def compute(space: Mapping[str, Parameter], metric: str, trials: Sequence[Trial]) -> dict[str, float]:
    """Shares by parameter, the largest first; empty for fewer than two trials or values that do not differ.

    Raises: Unavailable where it takes longer than 25 s.
    """
    points = [{"params": dict(each.params), "value": each.values[metric]} for each in trials if set(each.params) <= set(space)][
        -MOST_TRIALS:
    ]
    if len({point["value"] for point in points}) < 2:
        return {}
    asked = json.dumps({"space": {name: each.model_dump(mode="json") for name, each in space.items()}, "points": points})
    async with _one_at_a_time:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", _PROGRAM, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer, _ = await child.communicate(asked.encode())
        except TimeoutError as error:
            raise Unavailable(reason="The importance of parameters took too long to compute.", retry_after_s=30) from error
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    found: dict[str, float] = json.loads(answer)
    return found

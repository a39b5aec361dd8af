"""The labelling project ``pets`` on the real PostgreSQL and S3."""

from __future__ import annotations

import pytest

from actors.securityvault.models import Scope
from cluster.db import Database
from cluster.objects import Objects
from tests.dataforge.labelling.setting import Setting


@pytest.fixture
def pets(database: Database, objects: Objects, scope: Scope) -> Setting:
    return Setting(database, objects, scope)

"""DataForge as the client sees it, one file a part of it."""

from aidos.resources.dataforge.labelling import Labelling
from aidos.resources.dataforge.pulls import PullRequests
from aidos.resources.dataforge.reads import Reads
from aidos.resources.dataforge.reports import Reports
from aidos.resources.dataforge.tables import Tables
from aidos.resources.dataforge.versions import Datasets

__all__ = ["Datasets", "Labelling", "PullRequests", "Reads", "Reports", "Tables"]

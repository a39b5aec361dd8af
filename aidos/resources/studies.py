"""Studies, as the client sees them. ``aidos.trial()`` and ``aidos study create`` build on these."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.studies import (
    ImportanceRead,
    ReportRead,
    StudyCreate,
    StudyFinish,
    StudyRead,
    StudyUpdate,
    TrialBegin,
    TrialFinish,
    TrialRead,
    TrialReport,
)

_ALL = "/v1/studies"
_ONE = f"{_ALL}/{{study}}"
_TRIAL = f"{_ONE}/trials/{{number}}"


class Studies(Resource):
    """Searches for good hyperparameters: spaces, samplers, budgets, trials."""

    noun = "study"
    plural = "studies"

    create = operation(
        "POST", _ALL, body=StudyCreate, returns=StudyRead, positional=("name",), help="Begin a search whose code is uploaded already."
    )
    list = operation("GET", _ALL, returns=StudyRead, paged=True, query={"state": str}, help="The project's studies, newest first.")
    get = operation("GET", _ONE, returns=StudyRead, query={"wait": str}, help="One study; --wait 30s answers once it no longer runs.")
    update = operation("PATCH", _ONE, body=StudyUpdate, returns=StudyRead, help="Give it another space or budget, also while it runs.")
    delete = operation("DELETE", _ONE, help="Delete a study that does not run; the runs of its trials stay.")
    stop = operation("POST", f"{_ONE}/stop", returns=StudyRead, help="End the search now; trials that ended stay.")
    resume = operation("POST", f"{_ONE}/resume", returns=StudyRead, help="Go on with a search that has ended.")
    best = operation("GET", f"{_ONE}/best", returns=TrialRead, paged=True, help="The best trial; of several objectives the Pareto front.")
    importance = operation(
        "GET", f"{_ONE}/importance", returns=ImportanceRead, query={"metric": str}, help="How much each parameter matters (fANOVA)."
    )
    trials = operation("GET", f"{_ONE}/trials", returns=TrialRead, paged=True, query={"state": str}, help="A study's trials by number.")
    trial = operation("GET", _TRIAL, returns=TrialRead, help="One trial.")
    start = operation("POST", f"{_ONE}/start", returns=StudyRead, help="Told by the study's own job when it begins.")
    finish = operation("POST", f"{_ONE}/finish", body=StudyFinish, returns=StudyRead, help="Told by the study's own job at its end.")
    begin_trial = operation("POST", f"{_ONE}/trials", body=TrialBegin, returns=TrialRead, help="Begin a trial, in the study's own job.")
    report_trial = operation(
        "POST", f"{_TRIAL}/reports", body=TrialReport, returns=ReportRead, help="Say what a trial measured, in the study's own job."
    )
    finish_trial = operation(
        "POST", f"{_TRIAL}/finish", body=TrialFinish, returns=TrialRead, help="Say how a trial ended, in the study's own job."
    )

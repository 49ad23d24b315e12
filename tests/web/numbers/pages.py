"""Each page with the API's answers that it is made of, and what it must say."""

import json
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient
from tests.web.numbers import evaluation_facts, facts
from tests.web.numbers.filled import Filled
from tests.web.numbers.spelling import Json, t

from tunesmith import __version__
from tunesmith.estimate.prices import DEFAULT_MODEL, OPENAI, require_price
from tunesmith.export.kinds import WIDTHS
from tunesmith.models.facts import count_parameters
from tunesmith.rows.codes import CODES
from tunesmith.store import Store
from tunesmith.web.formats import size
from tunesmith.web.views.organization.health import PACKAGES
from tunesmith.web.views.organization.keys import LIFETIMES
from tunesmith.web.views.organization.usage import SPANS, first_day

JOBS, FILES, EVALS, ORGANIZATION = "/v1/fine_tuning/jobs", "/v1/files", "/v1/evals", "/v1/organization"
NOTHING_SENT = "0 of 1"  # the bar of an upload, which is hidden
PAIRS = 16  # of metadata, as OpenAI has it


@dataclass(frozen=True, slots=True)
class Check:
    """A page: its route, its address, what it must say, and the answers whose strings it may say."""

    route: str
    address: str
    said: Iterable[str]
    answers: Any
    again: str = ""  # asked of the API after the page too, for what changes meanwhile


class Pages:
    """The pages of a filled store."""

    def __init__(self, browser: TestClient, store: Store, base: Path, filled: Filled) -> None:
        self.browser, self.store, self.base, self.filled = browser, store, base, filled
        self.settings = filled.settings
        self.jobs = self.get(JOBS)
        self.by_id = {one["id"]: one for one in self.jobs["data"]}
        events = self.get(f"{JOBS}/{filled.running}/events?limit=1000")
        self.events = events["data"]
        self.steps = [one["data"] for one in reversed(self.events) if one["type"] == "metrics"]
        self.files = self.get(FILES)
        self.models = self.get("/v1/models")

    def get(self, path: str) -> Json:
        """The API's answer."""
        answer = self.browser.get(f"/ui/api{path}")
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def checks(self) -> list[Check]:
        """All pages."""
        return [*self._jobs(), *self._files(), *self._models(), *self._evaluations(), *self._organization()]

    def _jobs(self) -> Iterator[Check]:
        running, done = self.filled.running, self.filled.done
        line = [*facts.line_facts(self.steps)]
        losses = [f"{self.steps[place]['train_loss']:.3f}" for place in (0, -1)]
        spark = t("jobs.spark", first=losses[0], last=losses[1])
        yield Check("/", "/", [*line, spark], self.jobs)
        yield Check("/ui/jobs", "/ui/jobs", line, self.jobs)
        kept = self.get(f"{JOBS}/{running}/checkpoints")
        said = [*facts.job_facts(self.by_id[running], self.steps, kept["data"])]
        answers = [self.by_id[running], self.events, kept, self.files]
        yield Check("/ui/jobs/{id}", f"/ui/jobs/{running}", said, answers)
        yield Check("/ui/jobs/{id}/events", f"/ui/jobs/{running}/events?steps=1", [], answers)
        said = [*facts.compared_jobs(self.by_id[running], self.steps, self.by_id[done])]
        yield Check("/ui/jobs/compare", f"/ui/jobs/compare?job={running}&job={done}", said, self.jobs)
        said = [t("new_job.suffix_hint", most=self.settings.max_suffix_chars)]
        said += [
            f"{one['filename']} · {size(one['bytes'])}" for one in self.files["data"] if one["purpose"] == "fine-tune"
        ]
        prices = [one.model for one in OPENAI.prices]
        said += [
            "nf4",
            "int8",
            "int4",
            "float32",
            "bfloat16",
            t("option_hint.matmul_precision"),
            t("new_job.metadata_hint", most=PAIRS),
        ]
        said += [t(f"new_job.metadata_{part}_n", n=one) for part in ("key", "value") for one in range(1, PAIRS + 1)]
        yield Check("/ui/jobs/new", "/ui/jobs/new", said, [self.files, self.models, prices])

    def _files(self) -> Iterator[Check]:
        file = self.get(f"{FILES}/{self.filled.file}")
        report = self.store.files.report(file["id"])  # which the API has no route for
        assert report is not None
        said = [f"{_rows(self.store, one['id'])} {size(one['bytes'])}" for one in self.files["data"]]
        yield Check("/ui/files", "/ui/files", [*said, NOTHING_SENT], [self.files, self.jobs])
        content = self.browser.get(f"/ui/api{FILES}/{file['id']}/content").content
        meanings = [one.meaning for one in CODES.values()]
        here, answers = f"/ui/files/{file['id']}", [file, report, self.models, meanings, sha256(content).hexdigest()]
        yield Check("/ui/files/{file_id}", here, facts.file_facts(file, report), answers)
        yield Check("/ui/files/{file_id}/findings", f"{here}/findings", facts.finding_facts(report), answers)
        groups: Any = report["duplicates"]
        said = [t("file.line", line=line) for one in groups["largest_groups"] for line in one["lines"][:2]]
        said += [t("file.same_rows", n=one["rows"]) for one in groups["largest_groups"]]
        yield Check(
            "/ui/files/{file_id}/duplicates", f"{here}/duplicates", said, [*answers, _content(self, file["id"])]
        )

    def _models(self) -> Iterator[Check]:
        weights = sum(one.stat().st_size for one in self.base.glob("*.safetensors"))
        counted = f"{count_parameters(self.base).total():,} {size(weights)}"
        kept = self.get(f"{JOBS}/{self.filled.running}/checkpoints")["data"]
        others = sum(one["owned_by"].startswith("alias-of:") for one in self.models["data"])
        said = [counted, t("models.other_names", n=others)]
        said += [t("models.checkpoint", step=one["step_number"]) for one in kept]
        answers = [self.models, self.jobs]
        yield Check("/ui/models", "/ui/models", said, answers)
        job, projects = self.by_id[self.filled.done], self.get(f"{ORGANIZATION}/projects")
        record = json.loads((self.filled.adapter / "card.json").read_text("utf-8"))
        said = [t("models.rows", n=record["training"]["rows"]), t("models.trained_tokens", n=job["trained_tokens"])]
        evaluation = _content(self, job["tunesmith"]["evaluation"]["file"])
        said += [t("models.at_step", step=record["step"]), *WIDTHS[1:]]
        yield Check(
            "/ui/models/{name:path}",
            f"/ui/models/{job['fine_tuned_model']}",
            said,
            [answers, record, evaluation, projects],
        )
        kept_rows = [json.loads(one) for one in self.browser.get("/ui/playground/corrections.jsonl").text.splitlines()]
        said = [f"{t('playground.rows', n=len(kept_rows))} {t('playground.too_few', n=10)}"]
        yield Check("/ui/playground", "/ui/playground", said, [self.models, kept_rows])

    def _evaluations(self) -> Iterator[Check]:
        job, evals = self.by_id[self.filled.done], self.get(EVALS)
        shown = job["tunesmith"]["evaluation"]
        said = [f"{t('evaluations.forgetting')} {shown['rows']} @{job['finished_at']}"]
        yield Check("/ui/evaluations", "/ui/evaluations", said, [self.jobs, evals])
        found = _content(self, shown["file"])
        said = [*evaluation_facts.verdict_facts(found)]
        yield Check("/ui/evaluations/{job_id}", f"/ui/evaluations/{job['id']}", said, [self.jobs, found])
        here, base = f"/ui/evaluations/evals/{self.filled.eval}", f"{EVALS}/{self.filled.eval}/runs"
        runs = [self.get(f"{base}/{one}") for one in self.filled.runs]
        answers = [evals, runs]
        yield Check("/ui/evaluations/evals/{eval_id}", here, evaluation_facts.runs_facts(runs), answers)
        items = self.get(f"{base}/{runs[1]['id']}/output_items?limit=20")["data"]
        said = [*evaluation_facts.run_facts(runs[1], items)]
        yield Check("/ui/evaluations/evals/{eval_id}/runs/{run_id}", f"{here}/runs/{runs[1]['id']}", said, answers)
        sides = [self.get(f"{base}/{one['id']}/output_items?limit=100")["data"] for one in runs]
        rows = [{one["datasource_item_id"]: one for one in side} for side in sides]
        address = f"{here}/compare?before={runs[0]['id']}&after={runs[1]['id']}"
        said = [*evaluation_facts.compared_facts(rows)]
        yield Check("/ui/evaluations/evals/{eval_id}/compare", address, said, answers)

    def _organization(self) -> Iterator[Check]:
        projects = self.get(f"{ORGANIZATION}/projects")
        keys = self.get(f"{ORGANIZATION}/admin_api_keys")["data"]
        keys += self.get(f"{ORGANIZATION}/projects/default/api_keys")["data"]
        yield Check("/ui/projects", "/ui/projects", [], projects)
        said = [f"{one['name']} …{one['redacted_value'][-4:]}" for one in keys]
        said += [t("keys.in_days", n=one) for one in LIFETIMES]
        yield Check("/ui/keys", "/ui/keys", said, [projects, keys], again=f"{ORGANIZATION}/admin_api_keys")
        yield self._usage(keys)
        packages = [("Tunesmith", __version__), ("Python", platform.python_version())]
        packages += [(name, version(name)) for name in PACKAGES]
        said = [f"{name} {number}" for name, number in packages]
        database = self.settings.paths.database.stat().st_size
        said.append(f"SQLite · {size(database)}")
        yield Check("/ui/health", "/ui/health", said, [self.models, str(self.settings.paths.root)])

    def _usage(self, keys: list[Json]) -> Check:
        path = f"{ORGANIZATION}/usage/completions?start_time={first_day(30, time.time())}&limit=31"
        sums = {}
        for group in ("model", "api_key_id"):
            found = self.get(f"{path}&group_by={group}")["data"]
            sums[group] = [result for day in found for result in day["results"]]
        names = {one["id"]: f"{one['name']} (…{one['redacted_value'][-4:]})" for one in keys}
        said = [*facts.usage_facts(self.get(path)["data"], sums, names), *(t("usage.days", n=one) for one in SPANS)]
        return Check(
            "/ui/usage", "/ui/usage", said, [require_price(DEFAULT_MODEL).table, *(one.model for one in OPENAI.prices)]
        )


def _rows(store: Store, file_id: str) -> str:
    report = store.files.report(file_id)
    return "–" if report is None else f"{report['examples']}"


def _content(pages: Pages, file_id: str) -> Json:
    text = pages.browser.get(f"/ui/api{FILES}/{file_id}/content").text
    return [json.loads(one) for one in text.splitlines()] if text.count("\n") > 1 else json.loads(text)

"""How fast the dashboard's pages are in a busy store: `python bench/web/pages.py`.

    python bench/web/pages.py [--jobs 10000] [--events 10000] [--requests 40] [--rounds 5] [--only /ui/jobs …]

A scratch folder is filled with so many jobs, one of which has so many events, and a real server answers from it.
Printed are, for each page of the navigation and for pages of single objects: milliseconds at the server (median and
95th percentile over one connection), and in Chromium with nothing kept from before: first and largest paint, the load
event, and the bytes that came. Aims: 100 ms at the server (95th), painted within a second, 200 kB.
"""

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.http_load.server import server
from bench.storage.scale_fill import Size, fill
from tests.web.browser.test_every_page import addresses, is_there
from tests.web.evaluated import finish_with_verdict

from tunesmith.settings import Settings
from tunesmith.store import open_store

AIMS = {"server": 100.0, "paint": 1000.0, "bytes": 200_000.0}
OBJECTS = ("/ui/jobs/{long}", "/ui/files/{file}", "/ui/models/{model}", "/ui/evaluations/{verdict}")
WARM_UP = 3
PAINTS = """() => new Promise(done => {
  let largest = 0;
  new PerformanceObserver(list => { for (const one of list.getEntries()) largest = one.startTime; })
    .observe({type: "largest-contentful-paint", buffered: true});
  setTimeout(() => {
    const [page] = performance.getEntriesByType("navigation");
    const first = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0;
    const all = [page, ...performance.getEntriesByType("resource")];
    done([first, largest, page.loadEventEnd, all.reduce((sum, one) => sum + one.transferSize, 0)]);
  }, 300);
})"""


@dataclass(frozen=True, slots=True)
class Site:
    """A filled store: a session of an owner, and the pages that are there."""

    settings: Settings
    session: str
    pages: Sequence[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=10_000, help="of one job; a hundredth of all")
    parser.add_argument("--requests", type=int, default=40, help="of each page, for the server's times")
    parser.add_argument("--rounds", type=int, default=5, help="of each page in Chromium; medians are shown")
    parser.add_argument("--only", nargs="+", default=[], help="pages whose address begins so")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        site = filled(Path(folder), options)
        seconds = time.perf_counter() - started
        print(f"{options.jobs:,} jobs, one with {options.events:,} events: filled in {seconds:.0f} s")
        with server(site.settings) as (address, _), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            Console(width=130).print(measured(site, address, browser, options))
            browser.close()


def filled(folder: Path, options: argparse.Namespace) -> Site:
    settings = Settings(data_dir=folder / "data", limit_uploads_per_minute=0)
    store = open_store(settings)
    try:
        _, key = store.keys.create("bench")
        found = fill(store, Size(jobs=options.jobs, events=100 * options.events, files=1_000, usage=20_000))
        names = {
            "long": found.long_job,
            "file": found.files[-1],
            "model": found.models[-1],
            "verdict": finish_with_verdict(store, settings),
        }
        session = store.sessions.create(key.id)
    finally:
        store.close()
    named = [one for one in addresses() if "{" not in one and one != "/ui/none"]
    pages = named + [page for one in OBJECTS if is_there(page := one.format(**names))]
    chosen = [one for one in pages if not options.only or one.startswith(tuple(options.only))]
    return Site(settings, session, chosen)


def measured(site: Site, address: tuple[str, int], browser: Browser, options: argparse.Namespace) -> Table:
    columns = ("page", "status", "p50 ms", "p95 ms", "first paint ms", "largest ms", "loaded ms", "kB", "aims")
    table = Table(*columns, title=f"medians of {options.rounds}", title_justify="left")
    for page in site.pages:
        status, times = at_the_server(site, address, page, options.requests)
        p95 = statistics.quantiles(times, n=20, method="inclusive")[18]
        first, largest, loaded, weight = in_chromium(site, address, browser, page, options.rounds)
        met = p95 <= AIMS["server"] and max(first, largest) <= AIMS["paint"] and weight <= AIMS["bytes"]
        numbers = [f"{one:.0f}" for one in (statistics.median(times), p95, first, largest, loaded)]
        table.add_row(page, str(status), *numbers, f"{weight / 1000:.0f}", "met" if met else "MISSED")
    return table


def at_the_server(site: Site, address: tuple[str, int], page: str, requests: int) -> tuple[int, list[float]]:
    """The status, and the milliseconds of each answer over one connection."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    headers = {"cookie": f"tunesmith_session_{address[1]}={site.session}"}
    times, status = [], 0
    for number in range(requests + WARM_UP):
        started = time.perf_counter()
        connection.request("GET", page, headers=headers)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
        if status >= 500:  # the server closes such a connection
            connection.close()
        if number >= WARM_UP:
            times.append(1000 * (time.perf_counter() - started))
    connection.close()
    return status, times


def in_chromium(
    site: Site, address: tuple[str, int], browser: Browser, page: str, rounds: int
) -> tuple[float, float, float, float]:
    """First and largest paint, load event (ms), bytes; each in a context that has seen nothing yet."""
    seen = list(_visits(site, address, browser, page, rounds))
    first, largest, loaded, weight = (statistics.median(one) for one in zip(*seen, strict=True))
    return first, largest, loaded, weight


def _visits(
    site: Site, address: tuple[str, int], browser: Browser, page: str, rounds: int
) -> Iterator[tuple[float, float, float, float]]:
    url = f"http://{address[0]}:{address[1]}"
    for _ in range(rounds):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.add_cookies([{"name": f"tunesmith_session_{address[1]}", "value": site.session, "url": url}])
        tab = context.new_page()
        tab.goto(url + page, wait_until="load")
        yield cast("tuple[float, float, float, float]", tuple(tab.evaluate(PAINTS)))
        context.close()


if __name__ == "__main__":
    main()

"""The page in a real browser: it sorts, filters, complains of nothing, and asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.report import fakes
from vlsmctl.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")

# Uses the page as a person would, and writes what it saw to where it can be read
PROBE = """
const said = {};
const table = document.querySelector(".cases table");
const heads = [...table.tHead.rows[0].cells];
const column = (name) => heads.findIndex((head) => head.textContent.trim() === name);
const cells = (name) => [...table.tBodies[0].rows].filter((row) => !row.hidden)
  .map((row) => row.cells[column(name)].textContent.trim());
const click = (name) => heads[column(name)].querySelector("button").click();
const order = () => heads.map((head) => head.getAttribute("aria-sort"));
said.first = cells("Dice");
click("Dice"); said.falling = cells("Dice"); said.order = order();
click("case"); said.cases = cells("case");
click("HD95"); said.hd95 = cells("HD95");
const controls = document.querySelector(".cases .controls");
said.controls = !controls.hidden;
const text = controls.querySelector("input[type=search]");
text.value = "SMALL round"; text.dispatchEvent(new Event("input")); said.found = cells("prompt");
said.output = controls.querySelector("output").textContent;
text.value = ""; text.dispatchEvent(new Event("input"));
const missed = controls.querySelector("input[value=missed]");
missed.checked = false; missed.dispatchEvent(new Event("change")); said.outcomes = cells("outcome");
said.wide = document.documentElement.scrollWidth; said.window = innerWidth;
said.errors = errors;
dispatchEvent(new Event("beforeprint"));
said.open = document.querySelectorAll("details:not([open])").length;
dispatchEvent(new Event("afterprint")); said.closed = document.querySelectorAll("details[open]").length;
const seen = document.createElement("pre");
seen.id = "seen"; seen.textContent = JSON.stringify(said); document.body.append(seen);
"""
ERRORS = """
const errors = [];
addEventListener("error", (event) => errors.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
"""


def allowed(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def probed(page: Path) -> Path:
    """A copy of the page with the probe, which its policy lets in beside the page's own script alone."""
    text = page.read_text(encoding="utf-8")
    policy = re.search(r"script-src ('[^']*')", text)
    assert policy is not None
    text = text.replace(policy[1], f"{policy[1]} {allowed(ERRORS)} {allowed(PROBE)}", 1)
    text = text.replace("<title>", f"<script>{ERRORS}</script><title>", 1)
    text = text.replace("</body>", f"<script>{PROBE}</script></body>")
    copy = page.with_name("probed.html")
    copy.write_text(text, encoding="utf-8")
    return copy


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    return subprocess.run(  # noqa: S603
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run",
            "--no-default-browser-check", "--virtual-time-budget=2000",
            f"--user-data-dir={page.parent / 'profile'}", *options, page.as_uri(),
        ],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=True,
    )  # fmt: skip


def seen(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    said: dict[str, Any] = json.loads(html.unescape(found[1]))
    return said


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = fakes.run(tmp_path_factory.mktemp("home"))
    pairs = fakes.data_set(run / "set", 30)
    fakes.evaluation(run / "eval" / "a", pairs, fakes.about(), sensitivity=fakes.SENSITIVITY)
    return write_report(run)


def test_sorting_filtering_and_no_complaint(page: Path) -> None:
    log = page.with_name("net.json")
    done = browse(
        probed(page),
        "--window-size=1200,900",
        "--enable-logging=stderr",
        f"--log-net-log={log}",
        "--dump-dom",
    )
    said = seen(done)
    assert "CONSOLE" not in done.stderr
    assert said["errors"] == []
    numbers = [float(text) for text in said["first"]]
    assert len(numbers) == 30
    assert numbers == sorted(numbers)
    assert [float(text) for text in said["falling"]] == sorted(numbers, reverse=True)
    assert said["order"].count("descending") == 1
    assert said["order"].count("none") == len(said["order"]) - 1
    assert said["cases"] == sorted(said["cases"])
    lengths = [float(text.split()[0]) for text in said["hd95"]]
    assert lengths == sorted(lengths)
    assert said["controls"]
    assert said["found"] == ["one small round polyp"] * 10
    assert said["output"] == "10 of 30 shown"
    assert 0 < len(said["outcomes"]) < 30
    assert not [words for words in said["outcomes"] if "missed" in words]
    assert (said["open"], said["closed"]) == (0, 0)
    assert requests(log) == set()


def requests(log: Path) -> set[str]:
    """The addresses that a page, and not the browser of itself, asked anything of."""
    text = log.read_text(encoding="utf-8").rstrip().removesuffix(",")
    document = json.loads(text if text.endswith("}") else text + "]}")
    asked = [event["params"] for event in document["events"] if "initiator" in event.get("params", {})]
    return {each["url"] for each in asked if each["initiator"] != "not an origin"}


def test_a_request_would_have_been_noticed(tmp_path: Path) -> None:
    page, log = tmp_path / "leaky.html", tmp_path / "net.json"
    page.write_text('<!DOCTYPE html><img src="https://example.invalid/x.png">')
    browse(page, f"--log-net-log={log}", "--dump-dom")
    assert requests(log) == {"https://example.invalid/x.png"}


def test_no_wider_than_a_phone(page: Path) -> None:
    """A window as narrow as a phone is one frame in a wider one: browsers have a least width."""
    inner = probed(page)
    outer = page.with_name("phone.html")
    outer.write_text(
        "<!DOCTYPE html><body><style>iframe { width: 390px; height: 800px; border: 0 }</style>"
        f'<iframe src="{inner.name}"></iframe>'
        "<script>addEventListener('load', () => { const view = document.querySelector('iframe')"
        ".contentDocument; document.body.append(view.querySelector('#seen')); });</script>"
    )
    said = seen(browse(outer, "--allow-file-access-from-files", "--dump-dom"))
    assert said["window"] == 390
    assert said["wide"] <= 390


def test_without_its_script_it_is_a_plain_table(page: Path) -> None:
    copy = page.with_name("no-script.html")
    copy.write_text(re.sub(r"script-src '[^']*'", "script-src 'none'", page.read_text(encoding="utf-8")))
    done = browse(copy, "--dump-dom")
    assert '<div class="controls" hidden' in done.stdout
    assert "<button" not in done.stdout
    assert done.stdout.count("data-outcome=") == 30

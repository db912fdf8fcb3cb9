"""The viewer in a real Chromium. One test runs with all tests; the others by `make test-browser`."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.view.conftest import Served, make_lake, make_sound
from tl_data.demo.file_server import FileServer
from tl_data.view.app import Viewer
from tl_data.view.snapshot import LakeFolder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="needs Chromium and playwright: apt-get install chromium; pip install playwright",
)
FIRST, SPOKEN = f"{0:024x}", f"{990:024x}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--autoplay-policy=no-user-gesture-required"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


class Opened:
    """A page, what it asked for, and what went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on(
            "console",
            lambda message: self.faults.append(message.text) if message.type == "error" else None,
        )


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    found = Opened(context.new_page())
    yield found
    context.close()
    assert found.faults == []


def time_of(page: Page) -> float:
    return float(page.evaluate("document.querySelector('.player video').currentTime"))


def wait_until(page: Page, condition: str, seconds: float = 20.0) -> None:
    """Wait for a condition in JavaScript; the page's policy lets nobody evaluate text within it."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def seeked(page: Page, act: Callable[[], object]) -> float:
    """Where the player stood when the seek that an act began had ended, and that it plays then.

    The rate of the player is 0 meanwhile, because on a busy machine it would play on before it is asked.
    """
    page.evaluate(
        "(v => { v.playbackRate = 0;"
        " v.addEventListener('seeked', () => { window.seekEnded = true; }, { once: true }); })"
        "(document.querySelector('.player video'))"
    )
    act()
    wait_until(page, "window.seekEnded === true")
    wait_playing(page)
    position = time_of(page)
    page.evaluate(
        "(v => { delete window.seekEnded; v.playbackRate = 1; })(document.querySelector('.player video'))"
    )
    wait_until(page, f"document.querySelector('.player video').currentTime > {position}")
    return position


def wait_playing(page: Page) -> None:
    wait_until(page, "(v => v && !v.paused && !v.seeking)(document.querySelector('.player video'))")


def test_from_the_wall_to_a_moment_without_leaving_the_machine(opened: Opened, thousand: Served) -> None:
    """The seed of `make test`: the wall, a video, a click that plays at its time, and a deep link."""
    page = opened.page
    page.goto(thousand.url)
    page.wait_for_selector(".tile img")
    assert page.locator(".total").inner_text() == "1,002 videos"
    assert page.locator(".tile").count() < 60  # those in sight
    page.locator("input[type=search]").fill("harbour number 990 is")
    wait_until(page, "document.querySelector('.total').textContent.startsWith('1 video')")
    page.locator(".tile a").click()
    page.wait_for_selector(".player video")
    mark = page.locator(".lane-clips .mark").nth(2)  # begins at 10 s
    assert abs(seeked(page, mark.click) - 10.0) <= 0.5
    page.goto(f"{thousand.url}#video={SPOKEN}&t=12.5")
    page.reload()
    wait_until(page, "document.querySelector('.player video')?.currentTime > 12")
    assert abs(time_of(page) - 12.5) <= 0.5
    assert [url for url in opened.requests if not url.startswith(thousand.url)] == []


@pytest.mark.browser
def test_the_wall_scrolls_to_its_end(opened: Opened, thousand: Served) -> None:
    page = opened.page
    page.goto(f"{thousand.url}#videos&sort=title&state=ready")
    page.wait_for_selector(".tile")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    last = page.locator("[aria-posinset='1000']")
    last.wait_for()
    assert last.locator(".title").inner_text() == "Video 0999"
    assert page.locator(".tile").count() < 60


@pytest.mark.browser
def test_filters_stay_in_the_address(opened: Opened, thousand: Served) -> None:
    page = opened.page
    page.goto(thousand.url)
    page.wait_for_selector(".tile")
    page.locator("select").first.select_option("failed")
    wait_until(page, "document.querySelector('.total').textContent === '2 videos'")
    assert "state=failed" in page.url
    page.reload()
    wait_until(page, "document.querySelector('.total')?.textContent === '2 videos'")


@pytest.mark.browser
def test_texts_of_videos_do_not_act(opened: Opened, thousand: Served) -> None:
    page = opened.page
    for address in (
        f"#video={FIRST}",
        "#search&text=harbour",
        "#search&text=img+src",
        "#alerts",
        "#videos&sort=oldest",
    ):
        page.goto(f"{thousand.url}{address}")
        page.reload()
        page.wait_for_selector("main :is(.player, .tile, table)")
        page.wait_for_timeout(150)
        assert page.title() != "owned"
        assert page.locator("main script, main img[onerror]").count() == 0
    assert page.get_by_text("<script>").count() > 0  # it is shown as it is


@pytest.mark.browser
def test_keys(opened: Opened, thousand: Served) -> None:
    page = opened.page
    page.goto(thousand.url)
    page.wait_for_selector(".tile")
    page.keyboard.press("?")
    assert page.locator("dialog[open] kbd").count() >= 6
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('.tile').ariaPosInSet") == "2"
    page.keyboard.press("Enter")
    page.wait_for_selector(".player video")
    wait_until(page, "document.querySelector('.player video').readyState >= 1")
    assert abs(seeked(page, lambda: page.keyboard.press("ArrowRight")) - 5.0) <= 0.5
    page.keyboard.press("Space")
    wait_until(page, "document.querySelector('.player video').paused")
    page.keyboard.press("Escape")
    page.wait_for_selector(".wall .tile")


@pytest.mark.browser
def test_the_transcript_follows_and_jumps(opened: Opened, thousand: Served) -> None:
    page = opened.page
    page.goto(f"{thousand.url}#video={SPOKEN}")
    page.wait_for_selector(".transcript button")
    page.wait_for_selector(".player video")
    assert abs(seeked(page, page.locator(".transcript button").nth(3).click) - 15.0) <= 0.5
    assert "clip 3" in page.locator(".transcript [aria-current]").inner_text()
    page.locator(".lane-clips .mark").nth(1).hover()
    assert page.locator(".bubble img").is_visible()


@pytest.mark.browser
def test_the_lanes_of_the_timeline(opened: Opened, thousand: Served) -> None:
    page = opened.page
    page.goto(f"{thousand.url}#video={FIRST}")
    page.wait_for_selector(".timeline")
    names = ["chapters", "highlights", "clips", "speech", "on-screen text", "objects", "alerts"]
    assert page.locator(".lane-name").all_inner_texts() == names
    page.locator(".lane-on-screen-text .mark").first.hover()
    assert "Sign" in page.locator(".bubble").inner_text()
    page.locator(".lane-chapters .mark").nth(1).focus()
    page.keyboard.press("Enter")
    wait_until(page, "Math.abs(document.querySelector('.player video').currentTime - 10) < 1.5")
    page.locator("summary", has_text="annotations").click()
    assert page.get_by_text("a crane").count() >= 1


@pytest.mark.browser
def test_search_and_similar(opened: Opened, thousand: Served) -> None:
    page = opened.page
    page.goto(f"{thousand.url}#search")
    assert "Costs nothing" in page.locator(".cost").inner_text()
    page.locator("input[type=search]").fill("number 990 is")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hit")
    assert page.locator(".hit").count() == 4
    page.locator(".hit").nth(1).hover()
    wait_until(page, "(document.querySelector('.hit video')?.currentTime ?? 0) >= 5")
    page.get_by_role("button", name="Copy as SQL").click()
    assert "contains(lower(c.transcription)" in page.locator("dialog[open] pre").first.inner_text()
    page.keyboard.press("Escape")
    page.locator(".hit a").nth(1).click()
    page.wait_for_selector(".lane-hits .mark")
    assert page.locator(".lane-hits .mark").count() == 4
    page.locator("summary", has_text="clips").click()
    page.locator("a", has_text="similar").first.click()
    page.wait_for_selector(".hit .score")
    assert page.locator(".hit").count() == 24


@pytest.mark.browser
def test_errors_and_the_retry_list(opened: Opened, thousand: Served) -> None:
    page = opened.page
    page.goto(f"{thousand.url}#errors")
    page.wait_for_selector("tbody tr")
    assert page.locator("tbody tr").count() == 2
    page.locator(".codes a", has_text="video_duration_too_short").click()
    wait_until(page, "document.querySelectorAll('tbody tr').length === 1")
    assert len(page.locator("td.step").inner_text()) > 20
    with page.expect_download() as download:
        page.get_by_role("link", name="Retry list").click()
    assert Path(download.value.path()).read_text().splitlines()[0] == "source_key,url"


@pytest.mark.browser
def test_runs_have_charts(opened: Opened, thousand: Served) -> None:
    page = opened.page
    page.goto(f"{thousand.url}#runs")
    page.wait_for_selector("figure rect")
    assert page.locator(".sums dd").first.inner_text() == "0.75 USD"
    assert page.locator("tbody tr").count() == 3


@pytest.mark.browser
def test_a_source_on_the_web_plays_and_one_that_is_gone_is_explained(
    opened: Opened, video: Path, tmp_path: Path, serve: Callable[[Viewer], Served]
) -> None:
    with FileServer({video.name: video}) as files:
        make_lake(tmp_path, lambda n: files.url(video.name if n == 0 else "gone.webm"), 2)
        served = serve(Viewer(LakeFolder(str(tmp_path)), "web"))
        page = opened.page
        page.goto(f"{served.url}#video={FIRST}&t=5&play=1")
        wait_playing(page)
        assert 4.5 <= time_of(page) <= 8.0  # it has played since
        page.goto(f"{served.url}#video={1:024x}")
        page.wait_for_selector(".why")
        assert page.locator(".player video").count() == 0
    assert {url.split("/")[2] for url in opened.requests} == {served.url.split("/")[2], files.base_url[7:]}
    opened.faults = [fault for fault in opened.faults if "404" not in fault]


@pytest.mark.browser
def test_sound_without_pictures_plays_whatever_the_extension(
    opened: Opened, tmp_path: Path, serve: Callable[[Viewer], Served]
) -> None:
    make_sound(sound := tmp_path / "talk.webm")
    make_lake(tmp_path / "lake", lambda n: str(sound), 1)
    served = serve(Viewer(LakeFolder(str(tmp_path / "lake")), "sound"))
    page = opened.page
    page.goto(f"{served.url}#video={FIRST}&t=1&play=1")
    wait_playing(page)
    wait_until(page, "document.querySelector('.player video').currentTime > 1.5")
    assert page.evaluate("document.querySelector('.player video').videoWidth") == 0
    assert page.locator(".why").count() == 0


@pytest.mark.browser
def test_dark_and_light_and_narrow(browser: Browser, thousand: Served) -> None:
    context = browser.new_context(viewport={"width": 380, "height": 720}, color_scheme="dark")
    page = context.new_page()
    for address in ("#videos", f"#video={SPOKEN}", "#search&text=990", "#errors", "#runs"):
        page.goto(f"{thousand.url}{address}")
        page.reload()
        page.wait_for_selector("main :is(.player, .tile, table)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    page.reload()
    page.wait_for_selector("main table")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screen_readers_find_their_way(browser: Browser, thousand: Served, scheme: Any) -> None:
    """No serious finding of axe on any page."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    context = browser.new_context(viewport={"width": 1280, "height": 860}, color_scheme=scheme)
    page = context.new_page()
    found = []
    for address in (
        "#videos",
        f"#video={SPOKEN}&q=harbour",
        "#search&text=harbour",
        "#errors",
        "#runs",
        "#alerts",
    ):
        page.goto(f"{thousand.url}{address}")
        page.reload()
        page.wait_for_selector("main :is(.player, .tile, table)")
        response = axe.Axe().run(page).response
        assert len(response["passes"]) > 10
        for finding in response["violations"]:
            if finding["impact"] in ("serious", "critical"):
                nodes = [f"{n['html'][:120]} {n['failureSummary']}" for n in finding["nodes"]]
                found.append((address, finding["id"], nodes[:3]))
    context.close()
    assert found == []

"""The page at `/` of `tl-data serve`, over the engine that the tests share."""

from __future__ import annotations

import http.client
import json
import uuid
from urllib.parse import urlsplit

import pytest

from tests.conftest import Engine
from tests.support.library import Library
from tests.view.test_browser import CHROMIUM, Opened, browser, opened, seeked, wait_until

__all__ = ["browser", "opened"]  # fixtures


def test_the_page_is_served_with_a_policy(engine: Engine) -> None:
    parts = urlsplit(engine.base_url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("GET", "/")
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200
    assert b"static/playground.js" in body
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    connection.request("GET", "/static/playground.js")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, "text/javascript")
    answer.read()
    connection.request("GET", "/static/../app.py")
    assert connection.getresponse().status == 404
    connection.close()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_search_play_ask(opened: Opened, engine: Engine, library: Library) -> None:
    page = opened.page
    page.goto(engine.base_url.removesuffix("/v1.3") + "/")
    page.wait_for_selector(".tile")
    index = page.locator("option", has_text=library.index).get_attribute("value")
    page.locator("select").select_option(index)
    wait_until(page, "document.querySelectorAll('.tile').length === 2")
    page.get_by_label("Words").fill("a red object")
    page.keyboard.press("Enter")
    page.wait_for_selector(".tiles .score")
    page.locator(".tiles a").first.click()
    wait_until(page, "(document.querySelector('.player video')?.readyState ?? 0) >= 2")
    page.wait_for_selector(".lane-chapters .mark")
    lanes = page.locator(".lane-name").all_inner_texts()
    assert lanes[:5] == ["hits", "chapters", "highlights", "clips", "speech"]
    assert page.locator(".transcript button").count() >= 1
    second = page.locator(".lane-clips .mark").nth(1)
    start = float(second.evaluate("mark => parseFloat(mark.style.left) / 100"))
    duration = float(page.evaluate("document.querySelector('.player video').duration"))
    assert abs(seeked(page, second.click) - start * duration) <= 0.5
    second.hover()
    assert page.locator(".bubble img").is_visible()
    page.get_by_role("button", name="Request").first.click()
    parts = page.locator("dialog pre").all_inner_texts()
    assert parts[0].startswith("curl -X POST")
    assert "tl_data.extract(" in parts[1]
    assert parts[2].startswith("SELECT tl_extract(")
    assert "on_screen_text" in parts[3]
    page.keyboard.press("Escape")
    page.get_by_label("Question").fill("What is seen?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".prose")
    assert page.locator(".prose").inner_text()
    assert {
        urlsplit(url).netloc for url in opened.requests if "://" in url and not url.startswith("blob")
    } == {urlsplit(engine.base_url).netloc}


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("profile", ["today", "account_2025"])
def test_index_upload_extract(
    opened: Opened, profile: str, request: pytest.FixtureRequest, library: Library
) -> None:
    """A strict profile accepts each request of the page."""
    served: Engine = request.getfixturevalue(profile)
    page = opened.page
    page.goto(served.base_url.removesuffix("/v1.3") + "/")
    page.get_by_role("button", name="New index").click()
    page.get_by_label("Name").fill(f"playground {uuid.uuid4().hex[:6]}")
    page.keyboard.press("Enter")
    wait_until(page, "document.querySelector('.total')?.textContent === '0 videos'")
    page.locator("input[type=file][multiple]").set_input_files(library.image.with_name("plant.mp4"))
    page.wait_for_selector(".tasks .state.ready", timeout=240_000)
    page.locator(".tile a").click()
    page.wait_for_selector(".lane-clips .mark")
    page.wait_for_selector(".lane-chapters .mark")
    page.get_by_label("Question").fill("What is the title?")
    page.locator("summary", has_text="schema").click()
    page.get_by_label("JSON schema").fill('{"type": "object", "properties": {"title": {"type": "string"}}}')
    page.get_by_role("button", name="Ask").click()
    page.wait_for_selector(".prose")
    assert set(json.loads(page.locator(".prose").inner_text())) == {"title"}
    assert page.locator(".failure").count() == 0

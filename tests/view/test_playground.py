"""The page at `/` of `tl-data serve`, over the engine that the tests share."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest

from tests.conftest import Engine
from tests.support.library import Library
from tests.view.test_browser import CHROMIUM, Opened, browser, opened, wait_until

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
    page.get_by_role("button", name="Request").first.click()
    assert page.locator("dialog pre").first.inner_text().startswith("curl -X POST")
    page.keyboard.press("Escape")
    page.get_by_label("Question").fill("What is seen?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".prose")
    assert page.locator(".prose").inner_text()
    assert {
        urlsplit(url).netloc for url in opened.requests if "://" in url and not url.startswith("blob")
    } == {urlsplit(engine.base_url).netloc}

"""A page of another site, in a real Chromium, cannot drive an engine of this machine that has no key.

Two tests run with all tests; the others by `make test-browser`.
"""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import Engine
from tests.view.test_browser import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="needs Chromium and playwright: apt-get install chromium; pip install playwright",
)

#: A name that the browser resolves to this machine, as DNS rebinding makes it do.
FOREIGN = "foreign.example"

MODELS = '[{"model_name": "marengo3.0", "model_options": ["visual"]}]'

#: What a page can send; each answers what it learned. `at` is the engine, `name` a name for an index.
SENDS = """async ({at, name, models}) => {
  const body = label => `{"index_name": "${name}-${label}", "models": ${models}}`;
  const form = label => {
    const data = new FormData();
    data.append('index_name', `${name}-${label}`);
    return data;
  };
  const upload = new FormData();
  upload.append('method', 'direct');
  upload.append('file', new Blob(['x'.repeat(100)], {type: 'video/mp4'}), `${name}.mp4`);
  const json = {'Content-Type': 'application/json'};
  const post = (path, body, more) => fetch(at + path, {method: 'POST', body, ...more});
  const tries = {
    text: () => post('/v1.3/indexes', body('text'), {mode: 'no-cors'}),
    blob: () => post('/v1.3/indexes', new Blob([body('blob')]), {mode: 'no-cors'}),
    form: () => post('/v1.3/indexes', form('form'), {mode: 'no-cors'}),
    upload: () => post('/v1.3/assets', upload, {mode: 'no-cors'}),
    reindex: () => post('/_engine/reindex', '', {mode: 'no-cors'}),
    beacon: async () => navigator.sendBeacon(at + '/v1.3/indexes', body('beacon')),
    json: () => post('/v1.3/indexes', body('json'), {headers: json}),
    faults: () => fetch(at + '/_engine/faults', {method: 'PUT', body: '{}', headers: json}),
    read: () => fetch(at + '/v1.3/indexes'),
  };
  const learned = {};
  for (const [label, send] of Object.entries(tries)) {
    try {
      const answer = await send();
      learned[label] = answer instanceof Response ? answer.status : 'sent';
    } catch (error) {
      learned[label] = error.name;
    }
  }
  return learned;
}"""

#: What a page can send by navigation, which no policy of the engine's answers could forbid.
SUBMIT = """({at, name, models}) => {
  const form = document.createElement('form');
  form.method = 'POST';
  form.enctype = 'text/plain';
  form.action = at + '/v1.3/indexes';
  const field = document.createElement('input');
  field.name = `{"index_name": "${name}-submit", "models": ${models}, "x": "`;
  field.value = '"}';
  form.append(field);
  document.body.append(form);
  form.submit();
}"""


class EmptyPage(http.server.BaseHTTPRequestHandler):
    """An empty page."""

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>foreign</title><body></body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def foreign_port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def rebinding_browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = [f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def page(rebinding_browser: Browser) -> Iterator[Page]:
    context = rebinding_browser.new_context()
    yield context.new_page()
    context.close()


def state_of(engine: Engine, name: str) -> tuple[list[str], list[str]]:
    """Names of the indexes and assets that begin with `name`."""
    with httpx.Client(base_url=engine.base_url, timeout=30) as api:
        indexes = api.get("/indexes", params={"page_limit": 50}).json()["data"]
        assets = api.get("/assets", params={"page_limit": 50}).json()["data"]
    return (
        sorted(index["index_name"] for index in indexes if index["index_name"].startswith(name)),
        sorted(asset["filename"] for asset in assets if asset["filename"].startswith(name)),
    )


@pytest.mark.browser
@pytest.mark.parametrize("site", [FOREIGN, "localhost", "127.0.0.1"])
@pytest.mark.parametrize("target", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_foreign_page_changes_and_reads_nothing(
    page: Page, engine: Engine, foreign_port: int, site: str, target: str
) -> None:
    """Another site, another host name, another port; also by the address for which no Sec-Fetch is sent."""
    name = f"foreign-{site}-{target}"
    page.goto(f"http://{site}:{foreign_port}/")
    given = {"at": f"http://{target}:{urlsplit(engine.base_url).port}", "name": name, "models": MODELS}
    learned = page.evaluate(SENDS, given)
    blind = {"text", "blob", "form", "upload", "reindex"}
    assert {learned[label] for label in blind} <= {0, "TypeError"}  # opaque, or not sent
    assert {learned[label] for label in ("json", "faults", "read")} == {"TypeError"}
    with page.expect_navigation():
        page.evaluate(SUBMIT, given)
    assert "host_not_allowed" in page.content()
    assert state_of(engine, name) == ([], [])


def test_a_rebound_name_reaches_nothing(page: Page, engine: Engine) -> None:
    answer = page.goto(f"http://{FOREIGN}:{urlsplit(engine.base_url).port}/v1.3/indexes")
    assert answer is not None
    assert (answer.status, answer.json()["code"]) == (403, "host_not_allowed")
    given = {"at": "", "name": "rebound", "models": MODELS}
    assert set(page.evaluate(SENDS, given).values()) == {403, "sent"}
    assert state_of(engine, "rebound") == ([], [])


def test_the_same_requests_of_the_engines_own_page_are_served(page: Page, engine: Engine) -> None:
    """So the tests above can fail."""
    page.goto(engine.base_url.removesuffix("/v1.3") + "/")
    given = {"at": "", "name": "own", "models": MODELS}
    learned = page.evaluate(SENDS, given)
    assert (learned["json"], learned["upload"], learned["read"], learned["reindex"]) == (201, 201, 200, 200)
    assert learned["text"] == 400  # JSON without its content type
    indexes, assets = state_of(engine, "own")
    assert indexes == ["own-json"]
    assert assets == ["own.mp4"]
    with httpx.Client(base_url=engine.base_url, timeout=30) as api:
        for index in api.get("/indexes", params={"page_limit": 50}).json()["data"]:
            if index["index_name"] == "own-json":
                assert api.delete(f"/indexes/{index['_id']}").status_code == 204

"""Protects the viewer from other web pages and users, and from scripts in the texts of videos."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_ORIGINS = 200  # the most source origins in the policy, because browsers limit the length of headers
HEADERS = {
    "Referrer-Policy": "no-referrer",  # the URL contains the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def policy(origins: Iterable[str]) -> str:
    """The Content-Security-Policy: scripts and styles from this server, media also from these origins."""
    media = " ".join(sorted(origins)[:MAX_ORIGINS])
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob:",
            f"media-src 'self' blob: {media}".rstrip(),
            f"connect-src 'self' {media}".rstrip(),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


class AccessControl:
    """Middleware that accepts only requests with the token, and refuses requests of other web pages.

    Args:
        names: the allowed values of the Host header; this prevents DNS rebinding.
        origins: returns the origins from which the page may load media; called for each page.
    """

    def __init__(
        self, app: ASGIApp, token: str, names: Iterable[str], origins: Callable[[], Iterable[str]]
    ) -> None:
        self.app = app
        self.token = token.encode()
        self.names = frozenset(names)
        self.origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or pass the request on, and add the headers of the policy to the answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if reason := self._refusal(scope):
            await PlainTextResponse(f"{reason}\n", 403, HEADERS)(scope, receive, send)
            return
        added = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
        if scope["path"].endswith("/"):
            added[b"content-security-policy"] = policy(self.origins()).encode()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in added.items() if name not in present),
                ]
            await send(message)

        await self.app(scope, receive, answer)

    def _refusal(self, scope: Scope) -> str:
        """The reason to refuse a request; "" if it is accepted."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host not in self.names:
            return "The Host header names another machine. Open the address that tl-data view printed."
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and urlsplit(origin).netloc != host:
            return "The request comes from another page."
        site = headers.get(b"sec-fetch-site", b"none")
        if site not in (b"none", b"same-origin"):
            # Another page may link to the viewer, but must not embed it or load its data.
            navigation = headers.get(b"sec-fetch-mode") == b"navigate"
            if not navigation or scope["method"] != "GET":
                return "The request comes from another page."
        token = scope["path"].lstrip("/").partition("/")[0].encode("utf-8", "replace")
        if not hmac.compare_digest(token, self.token):
            return "The address lacks the token. Open the address that tl-data view printed."
        return ""

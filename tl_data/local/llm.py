"""Calls of an OpenAI-compatible server: `/chat/completions`, at once or as a stream.

The address is the operator's own setting and may lead anywhere; nothing a request says changes it, and
redirects are not followed, so that the key goes nowhere else. The key stands in no message.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp

from tl_data.local.errors import APIProblem
from tl_data.local.thinking import Thoughts, answer_of
from tl_data.local.tiers import Endpoint
from tl_data.local.writers import Manner, Reason, Written

Message = dict[str, Any]
MOST_BYTES = 8 << 20  # of an answer
_TOLD = 300  # characters of the server's own words in a message


class Chat:
    """One server and model."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, messages: Sequence[Message], manner: Manner, schema: dict[str, Any] | None = None
    ) -> Written:
        """The whole answer.

        Raises:
            APIProblem: the server cannot be reached, refuses, or gives no answer.
        """
        body = self._body(messages, manner, schema)
        try:
            async with self._post(body) as answer:
                await self._check(answer)
                raw = bytearray()
                async for piece in answer.content.iter_any():
                    raw += piece
                    if len(raw) > MOST_BYTES:
                        raise self._strange(f"more than {MOST_BYTES >> 20} MB")
        except aiohttp.ClientPayloadError:
            raise self._strange("a text that broke off") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None
        try:
            told = json.loads(raw)
            choice, usage = told["choices"][0], told.get("usage") or {}
            text = choice["message"]["content"]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise self._strange("something else than choices[0].message.content") from None
        reason = _reason(choice.get("finish_reason"))
        if isinstance(text, str):
            text = answer_of(text, cut_off=reason == "length")
        if not isinstance(text, str) or not (text.strip() or reason == "length"):
            raise self._strange("no text")
        return Written(
            text,
            reason,
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
        )

    async def stream(self, messages: Sequence[Message], manner: Manner) -> AsyncIterator[Written]:
        """The answer in pieces as they come; the last one says why it ends.

        Raises:
            APIProblem: as `ask`, also after pieces were given.
        """
        body = self._body(messages, manner, None) | {
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        reason: Reason | None = None
        usage: dict[str, Any] = {}
        empty = True
        thoughts = Thoughts()
        try:
            async with self._post(body) as answer:
                await self._check(answer)
                async for line in answer.content:
                    data = line.strip().removeprefix(b"data:").strip()
                    if not line.startswith(b"data:") or data == b"[DONE]":
                        continue
                    told = json.loads(data)
                    if told.get("error"):
                        raise self._strange(f"the error {self._shown(json.dumps(told['error']))}")
                    usage = told.get("usage") or usage
                    for choice in told.get("choices") or []:
                        piece = (choice.get("delta") or {}).get("content")
                        if piece and (text := thoughts.add(piece)):
                            empty = False
                            yield Written(text, None)
                        if choice.get("finish_reason"):
                            reason = _reason(choice["finish_reason"])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None
        except (ValueError, TypeError, AttributeError):  # not JSON, or not of this shape
            raise self._strange("a stream that is not of chat.completion.chunk objects") from None
        if reason is None:
            raise self._strange("a stream that broke off")
        if text := thoughts.finish(cut_off=reason == "length"):
            empty = False
            yield Written(text, None)
        if empty and reason != "length":
            raise self._strange("no text")
        yield Written("", reason, usage.get("prompt_tokens"), usage.get("completion_tokens"))

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # the transports end in the loop's next turn
            self._session = None

    def invalid(self, why: str) -> APIProblem:
        """502 for an answer that is no use, also when asked for again."""
        return APIProblem(
            502,
            "text_endpoint_answer_invalid",
            f"{self._name()} answered twice with what breaks the schema: {self._shown(why)} Choose a model "
            "that keeps to a JSON schema, or raise max_tokens if the answer was cut off.",
        )

    # ------------------------------------------------------------------------------------ inside

    def _body(
        self, messages: Sequence[Message], manner: Manner, schema: dict[str, Any] | None
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._endpoint.model, "messages": list(messages)}
        if manner.temperature is not None:
            body["temperature"] = manner.temperature
        if manner.max_tokens is not None:
            body["max_tokens"] = manner.max_tokens
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema},
            }
        return body

    def _post(self, body: dict[str, Any]) -> Any:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._endpoint.timeout, sock_connect=10)
            # An answer takes seconds: to connect anew costs nothing, and no idle connection goes stale.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True),
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        headers = {"Authorization": f"Bearer {self._endpoint.key}"} if self._endpoint.key else {}
        url = f"{self._endpoint.url}/chat/completions"
        return self._session.post(url, json=body, headers=headers, allow_redirects=False)

    async def _check(self, answer: aiohttp.ClientResponse) -> None:
        if answer.status == 200:
            return
        said = self._shown((await answer.content.read(4096)).decode("utf-8", "replace"))
        status, code = 424, "text_endpoint_refused"
        if answer.status in (401, 403):
            what = "refuses the key: check TL_LOCAL_LLM_KEY."
        elif answer.status == 404:
            what = (
                "does not know the model or the path: check TL_LOCAL_LLM_MODEL and TL_LOCAL_LLM_URL (up to "
                f"/v1). It says: {said}"
            )
        elif answer.status == 429 or answer.status == 503:
            status, code = 503, "text_endpoint_busy"
            what = f"is busy (HTTP status {answer.status}). Try again later. It says: {said}"
        elif answer.status >= 500:
            status, code = 502, "text_endpoint_failed"
            what = f"failed (HTTP status {answer.status}). Look into its log. It says: {said}"
        else:
            what = f"refuses the request (HTTP status {answer.status}). It says: {said}"
        raise APIProblem(status, code, f"{self._name()} {what}")

    def _unreachable(self, error: BaseException) -> APIProblem:
        if isinstance(error, asyncio.TimeoutError | TimeoutError):
            return APIProblem(
                504,
                "text_endpoint_timeout",
                f"{self._name()} did not answer within {self._endpoint.timeout:g} s. Raise "
                "TL_LOCAL_LLM_TIMEOUT, send fewer frames (TL_LOCAL_LLM_FRAMES), or choose a smaller model.",
            )
        return APIProblem(
            503,
            "text_endpoint_unreachable",
            f"{self._name()} cannot be reached: {self._shown(str(error) or type(error).__name__)}. Start it, "
            "or unset TL_LOCAL_LLM_URL and restart the engine to let the built-in writer answer.",
        )

    def _strange(self, what: str) -> APIProblem:
        return APIProblem(
            502, "text_endpoint_answer_invalid", f"{self._name()} answered with {what}. Look into its log."
        )

    def _name(self) -> str:
        return f"The text endpoint {self._endpoint.url} (model {self._endpoint.model})"

    def _shown(self, text: str) -> str:
        """A server's words, without the key that it may repeat."""
        if self._endpoint.key:
            text = text.replace(self._endpoint.key, "***")
        return " ".join(text.split())[:_TOLD] or "(nothing)"


def _reason(given: Any) -> Reason:
    return "length" if given == "length" else "stop"

"""Pictures that a request names: `<@name>` in a prompt, or the subject of an analysis."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tl_data.local.errors import MediaProblem, invalid, not_provided
from tl_data.local.media_validation import MAX_BYTES, check_image
from tl_data.local.perception.evidence import Clip, Evidence, Probe
from tl_data.local.server.context import Engine
from tl_data.local.storage.database import new_id
from tl_data.local.tasks.download import check_url, fetch

NAME = re.compile(r"\w+")
MENTION = re.compile(r"<@(\w+)>")
SOURCES = ("url", "asset_id", "base64_string")
IMAGE_SECONDS = 60.0  # for the download of a picture


@dataclass(frozen=True)
class Reference:
    """A named picture, not fetched yet."""

    name: str
    kind: str  # one of SOURCES
    value: str


def read_references(parameter: str, value: Any, most: int, *, typed: bool = True) -> list[Reference]:
    """Check the pictures of a request.

    Args:
        typed: each must say `media_type: image`.

    Raises:
        APIProblem: parameter_invalid.
    """
    if not isinstance(value, list) or len(value) > most:
        raise invalid(parameter, f"It must be an array of at most {most} pictures.", value)
    found: list[Reference] = []
    for item in value:
        kinds = [kind for kind in SOURCES if isinstance(item, dict) and isinstance(item.get(kind), str)]
        if len(kinds) != 1:
            raise invalid(parameter, f"Each must have exactly one of {', '.join(SOURCES)}.", item)
        name = item.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in [one.name for one in found]:
            text = "The name of a picture must be letters, digits and underscores, and each only once."
            raise invalid(parameter, text, name)
        if typed and item.get("media_type") != "image":
            raise invalid(parameter, "The media_type must be image.", item.get("media_type"))
        found.append(Reference(name, kinds[0], item[kinds[0]]))
    return found


def check_mentions(parameter: str, text: str, references: Sequence[Reference], *, all_or_none: bool) -> None:
    """Refuse a prompt that names pictures that are not there, or only some of those that are.

    Raises:
        APIProblem: parameter_invalid.
    """
    named, known = set(MENTION.findall(text)), {one.name for one in references}
    if strange := sorted(named - known):
        raise invalid(parameter, f"<@{strange[0]}> names an unknown image.", text)
    if all_or_none and named and named != known:
        raise invalid(parameter, f"<@{min(known - named)}> is missing: name all pictures or none.", text)


async def load_reference(engine: Engine, reference: Reference, parameter: str) -> bytes:
    """The bytes of a picture.

    Raises:
        APIProblem: it cannot be loaded, or is no image.
    """
    try:
        if reference.kind == "url":
            data = await load_image(engine, reference.value)
        elif reference.kind == "asset_id":
            row = engine.ready_asset(reference.value)
            data = await asyncio.to_thread((engine.config.asset(row["id"]) / "source").read_bytes)
        else:
            data = base64.b64decode(reference.value, validate=True)
        check_image(data, 1, MAX_BYTES)
    except MediaProblem as problem:
        raise invalid(parameter, problem.message, reference.name) from None
    except (binascii.Error, ValueError):
        raise invalid(parameter, "base64_string is not valid base64.", reference.name) from None
    return data


async def describe_mentions(
    engine: Engine, text: str, references: Sequence[Reference], parameter: str
) -> str:
    """A prompt in which each `<@name>` is what its picture shows, in the words that describe clips."""
    from tl_data.local.perception.attributes import visual_words
    from tl_data.local.search.embeddings import measured_image

    words: dict[str, str] = {}
    for one in references:
        data = await load_reference(engine, one, parameter)
        try:
            words[one.name] = visual_words(await asyncio.to_thread(measured_image, data))
        except ValueError as error:
            raise invalid(parameter, f"Cannot read image file. {error}", one.name) from None
    return MENTION.sub(lambda match: words.get(match[1], match[0]), text)


async def build_image_evidence(engine: Engine, references: Sequence[Reference]) -> Evidence:
    """Pictures as a subject: one second each, in order.

    Raises:
        APIProblem: none is given, or one cannot be read.
    """
    from tl_data.local.search.embeddings import measured_image

    if not references:
        raise not_provided("image")
    clips: list[Clip] = []
    size = 0
    for number, one in enumerate(references):
        data = await load_reference(engine, one, "image")
        size += len(data)
        try:
            clip = await asyncio.to_thread(measured_image, data)
        except ValueError as error:
            raise invalid("image", f"Cannot read image file. {error}", one.name) from None
        clips.append(replace(clip, start_sec=float(number), end_sec=number + 1.0, keyframe="", cut=True))
    return Evidence(Probe(float(len(clips)), 0, 0, 0.0, size, None, None), tuple(clips))


async def load_image(engine: Engine, url: str) -> bytes:
    """The bytes behind an address of an image.

    Raises:
        MediaProblem: not a URL, refused, unreachable, a web page, too large.
    """
    target = engine.uploads / f"{new_id()}.image"
    try:
        await fetch(
            check_url(url, engine.config), target, engine.config,
            limit=MAX_BYTES, seconds=IMAGE_SECONDS, what="image",
        )  # fmt: skip
        return target.read_bytes()
    finally:
        target.unlink(missing_ok=True)

"""Pictures in a request: a prompt mentions them as `<@name>`, or an analysis has them as its subject."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tl_data.local.errors import MediaError, invalid, not_provided
from tl_data.local.media_validation import MAX_BYTES, check_image
from tl_data.local.perception.evidence import Clip, Evidence, Probe
from tl_data.local.server.context import Engine
from tl_data.local.storage.database import new_id
from tl_data.local.tasks.download import check_url, fetch

NAME = re.compile(r"\w+")
MENTION = re.compile(r"<@(\w+)>")
SOURCES = ("url", "asset_id", "base64_string")
IMAGE_DOWNLOAD_SEC = 60.0  # timeout for the download of a picture


@dataclass(frozen=True)
class Reference:
    """A picture with its name and its source. It is not loaded yet."""

    name: str
    kind: str  # one of SOURCES
    value: str


def read_references(parameter: str, value: Any, maximum: int, *, typed: bool = True) -> list[Reference]:
    """Validate the array of pictures in a request.

    Args:
        parameter: name of the parameter, for error messages.
        maximum: highest number of pictures.
        typed: whether each picture must have `media_type: image`.

    Raises:
        EngineError: parameter_invalid.
    """
    if not isinstance(value, list) or len(value) > maximum:
        raise invalid(parameter, f"It must be an array of at most {maximum} pictures.", value)
    references: list[Reference] = []
    for item in value:
        kinds = [kind for kind in SOURCES if isinstance(item, dict) and isinstance(item.get(kind), str)]
        if len(kinds) != 1:
            raise invalid(parameter, f"Each picture must have exactly one of {', '.join(SOURCES)}.", item)
        name = item.get("name")
        if (
            not isinstance(name, str)
            or not NAME.fullmatch(name)
            or name in [reference.name for reference in references]
        ):
            text = "The name of a picture must be unique, and consist of letters, digits and underscores."
            raise invalid(parameter, text, name)
        if typed and item.get("media_type") != "image":
            raise invalid(parameter, "The media_type must be image.", item.get("media_type"))
        references.append(Reference(name, kinds[0], item[kinds[0]]))
    return references


def check_mentions(parameter: str, text: str, references: Sequence[Reference], *, all_or_none: bool) -> None:
    """Reject a prompt that mentions an unknown picture.

    With `all_or_none`, a prompt that mentions only some of the pictures is also rejected.

    Raises:
        EngineError: parameter_invalid.
    """
    mentioned, known = set(MENTION.findall(text)), {reference.name for reference in references}
    if unknown := sorted(mentioned - known):
        raise invalid(parameter, f"<@{unknown[0]}> names an unknown image.", text)
    if all_or_none and mentioned and mentioned != known:
        raise invalid(
            parameter, f"<@{min(known - mentioned)}> is missing: mention all pictures or none.", text
        )


async def load_reference(engine: Engine, reference: Reference, parameter: str) -> bytes:
    """Load the bytes of a picture.

    Raises:
        EngineError: the picture cannot be loaded, or is not an image.
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
    except MediaError as error:
        raise invalid(parameter, error.message, reference.name) from None
    except (binascii.Error, ValueError):
        raise invalid(parameter, "base64_string is not valid base64.", reference.name) from None
    return data


async def describe_mentions(
    engine: Engine, text: str, references: Sequence[Reference], parameter: str
) -> str:
    """Replace each `<@name>` in a prompt by a description of its picture, in the words used for clips.

    Raises:
        EngineError: a picture cannot be loaded or read.
    """
    from tl_data.local.perception.attributes import visual_words

    words: dict[str, str] = {}
    for reference in references:
        data = await load_reference(engine, reference, parameter)
        try:
            words[reference.name] = visual_words(await engine.stages.measured_image(data))
        except ValueError as error:
            raise invalid(parameter, f"Cannot read image file. {error}", reference.name) from None
    return MENTION.sub(lambda match: words.get(match[1], match[0]), text)


async def build_image_evidence(engine: Engine, references: Sequence[Reference]) -> Evidence:
    """Convert pictures to evidence, as for a video that shows each picture for one second.

    Raises:
        EngineError: there is no picture, or one cannot be read.
    """
    if not references:
        raise not_provided("image")
    clips: list[Clip] = []
    size = 0
    for number, reference in enumerate(references):
        data = await load_reference(engine, reference, "image")
        size += len(data)
        try:
            clip = await engine.stages.measured_image(data)
        except ValueError as error:
            raise invalid("image", f"Cannot read image file. {error}", reference.name) from None
        clips.append(replace(clip, start_sec=float(number), end_sec=number + 1.0, keyframe="", cut=True))
    return Evidence(Probe(float(len(clips)), 0, 0, 0.0, size, None, None), tuple(clips))


async def load_image(engine: Engine, url: str) -> bytes:
    """Download an image.

    Raises:
        MediaError: the URL is invalid, not allowed or unreachable, leads to a web page, or the file is too
            large.
    """
    target = engine.uploads / f"{new_id()}.image"
    try:
        await fetch(
            check_url(url, engine.config), target, engine.config,
            limit=MAX_BYTES, seconds=IMAGE_DOWNLOAD_SEC, what="image",
        )  # fmt: skip
        return target.read_bytes()
    finally:
        target.unlink(missing_ok=True)

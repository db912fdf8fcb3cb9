"""One video, one identity: whatever signs the URL, and only as long as the content is the same."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_data.errors import MediaRefused
from tl_data.media.identity import BLOCK, WHOLE_FILE, canonical_url, identify
from tl_data.urls import redacted, without_signatures

SIGNED = {
    "s3": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token=t%2Bk"
    "&X-Amz-Signature=abc&x-id=GetObject",
    "s3, version 2": "AWSAccessKeyId=AKIA&Signature=a%2Fb&Expires=1760000000&x-amz-security-token=s",
    "gcs": "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=me&X-Goog-Date=2026&X-Goog-Expires=9"
    "&X-Goog-SignedHeaders=host&X-Goog-Signature=ff",
    "gcs, version 2": "GoogleAccessId=me%40x&Expires=1760000000&Signature=abc%3D",
    "azure": "sv=2024-11-04&ss=b&srt=o&sp=r&se=2026-01-01T00%3A00Z&st=2025&spr=https&sr=b&sig=a%2Bb%3D",
    "azure, user delegation": "sv=2024-11-04&skoid=1&sktid=2&skt=3&ske=4&sks=b&skv=5&sr=b&sp=r&se=6&sig=7",
    "azure, bound to a user": "sv=2025-07-05&skoid=1&sktid=2&skdutid=3&sduoid=4&sr=b&sp=r&se=6&sig=7",
    "tencent": "q-sign-algorithm=sha1&q-ak=AK&q-sign-time=1;2&q-key-time=1;2&q-header-list=host"
    "&q-url-param-list=&q-signature=abc&x-cos-security-token=t",
    "tencent, cdn": "txSecret=abc&txTime=6550",
    "google cdn": "Expires=1760000000&KeyName=key1&Signature=abc%3D",
    "google cdn, prefix": "URLPrefix=aHR0&Expires=1760000000&KeyName=key1&Signature=abc",
    "bunny": "token=abc&expires=1760000000&token_path=%2Fa%2F&token_countries=DE",
    "akamai": "hdnts=exp%3D1~acl%3D%2F*~hmac%3Dff",
    "akamai, edge token": "__token__=exp%3D1~hmac%3Dff",
    "cloudflare": "verify=1760000000-qEoP0aBcDeFgHiJkLmNoPqRsTuVwXyZ%3D",
    "alibaba, cdn": "auth_key=1760000000-0-0-0123456789abcdef0123456789abcdef",
    "nginx": "md5=0123456789_-abcdefghij&expires=1760000000",
    "lower case": "expires=1760000000&signature=abc",
    "token": "token=8a5f",
    "cloudfront": "Expires=1760000000&Signature=abc~&Key-Pair-Id=K123",
    "cloudfront, policy": "Policy=eyJ&Signature=abc&Key-Pair-Id=K123",
}


@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED)
def test_a_signature_is_no_part_of_the_video(query: str) -> None:
    plain = "https://media.example.com/a/clip.mp4"
    assert canonical_url(f"{plain}?{query}") == plain
    assert canonical_url(f"{plain}?versionId=7&{query}&lang=de") == f"{plain}?lang=de&versionId=7"
    assert redacted(f"fetching {plain}?{query}, then") == f"fetching {plain}, then"


@pytest.mark.parametrize(
    "query",
    [
        "expires=soon",
        "policy=7&signature=mine",
        "sig=1",
        "sp=3&sv=2",
        "se=de",
        "token=5",
        "ep=1&se=1&show=dark&sig=a",
        "expires=7&signature=mine",
        "md5=9e107d9d372bb6826bd81d3542a419d6",
        "verify=yes",
        "auth_key=5",
        "KeyName=1",
        "q-ak=1",
    ],
)
def test_parameters_that_only_look_like_a_signature_stay(query: str) -> None:
    assert canonical_url(f"https://example.com/v?{query}") == f"https://example.com/v?{query}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTPS://Example.COM:443/v.mp4", "https://example.com/v.mp4"),
        ("http://example.com:80", "http://example.com/"),
        ("https://example.com/v.mp4#t=10", "https://example.com/v.mp4"),
        ("https://example.com/a%20b.mp4", "https://example.com/a b.mp4"),
        ("https://example.com/caf%c3%a9.mp4", "https://example.com/café.mp4"),
        ("https://example.com/%7Euser/%41.mp4", "https://example.com/~user/A.mp4"),
        ("https://example.com/v?b=2&a=1", "https://example.com/v?a=1&b=2"),
        ("https://me:secret@example.com/v", "https://me:other@example.com/v"),
        ("s3a://bucket/a b.mp4", "s3://bucket/a b.mp4"),
        ("abfs://c@a.dfs.core.windows.net/v.mp4", "abfss://c@a.dfs.core.windows.net/v.mp4"),
        ("https://bücher.example/v", "https://xn--bcher-kva.example/v"),
        ("  https://example.com/v \n", "https://example.com/v"),
    ],
)
def test_two_spellings_of_one_resource(one: str, other: str) -> None:
    assert canonical_url(one) == canonical_url(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.com/a%2Fb", "https://example.com/a/b"),
        ("https://example.com/V", "https://example.com/v"),
        ("https://example.com:8443/v", "https://example.com/v"),
        ("http://example.com/v", "https://example.com/v"),
        ("https://example.com/v?id=1", "https://example.com/v?id=2"),
        ("https://example.com/cafe\u0301.mp4", "https://example.com/café.mp4"),
        ("https://alice:pw@example.com/v", "https://bob:pw@example.com/v"),
        ("https://alice@example.com/v", "https://example.com/v"),
        ("s3://bucket/cafe\u0301.mp4", "s3://bucket/café.mp4"),
        ("s3://bucket/a%20b.mp4", "s3://bucket/a b.mp4"),
        ("s3://bucket/v.mp4?a=1", "s3://bucket/v.mp4?a=2"),
        ("s3://bucket/v.mp4#1", "s3://bucket/v.mp4"),
        ("https://example.com/v?a=1%262", "https://example.com/v?a=1&2"),
    ],
)
def test_two_resources_stay_two(one: str, other: str) -> None:
    assert canonical_url(one) != canonical_url(other)


def test_a_setting_names_parameters_that_only_sign() -> None:
    url = "https://example.com/v.mp4?token=1&sid=2&id=3"
    assert canonical_url(url) == "https://example.com/v.mp4?id=3&sid=2"
    assert canonical_url(url, "SID") == "https://example.com/v.mp4?id=3"
    assert canonical_url(url, "sid, -token") == "https://example.com/v.mp4?id=3&token=1"


#: Names that sign in some set of parameters: the site's own ones below are others.
SIGNERS = {
    *("sv", "ss", "srt", "sp", "se", "st", "spr", "sip", "sr", "sig", "si", "sdd", "ses", "saoid", "suoid"),
    *("sduoid", "scid", "skoid", "sktid", "skt", "ske", "sks", "skv", "rscc", "rscd", "rsce", "rscl", "rsct"),
    *("expires", "signature", "policy", "token", "verify", "hdnts", "hdnea", "hdntl", "md5", "__token__"),
}
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8).filter(
    lambda name: name not in SIGNERS
)
VALUES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z"), exclude_characters="&#%+"), max_size=12)
PARTS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z"), exclude_characters="/?#%;[]"), min_size=1)


@given(
    parts=st.lists(PARTS, min_size=1, max_size=3),
    own=st.dictionaries(NAMES, VALUES, max_size=4),
    signed=st.sampled_from(sorted(SIGNED)),
    order=st.randoms(use_true_random=False),
)
def test_only_signatures_are_removed_in_any_order(
    parts: list[str], own: dict[str, str], signed: str, order: random.Random
) -> None:
    plain = "https://media.example.com/" + "/".join(parts) + ".mp4"
    kept = [f"{name}={value}" for name, value in own.items()]
    mixed = [*kept, *SIGNED[signed].split("&")]
    order.shuffle(mixed)
    bare = plain + ("?" + "&".join(kept) if kept else "")
    assert canonical_url(f"{plain}?{'&'.join(mixed)}") == canonical_url(bare)
    assert canonical_url(canonical_url(bare)) == canonical_url(bare)


@given(one=st.lists(PARTS, min_size=1, max_size=3), other=st.lists(PARTS, min_size=1, max_size=3))
def test_two_keys_of_a_bucket_are_two_videos_and_so_are_two_paths(one: list[str], other: list[str]) -> None:
    for place in ("s3://bucket/", "https://example.com/"):
        first, second = place + "/".join(one), place + "/".join(other)
        assert (canonical_url(first) == canonical_url(second)) == (one == other)


@given(
    own=st.dictionaries(NAMES, VALUES, min_size=1, max_size=4),
    name=st.randoms(use_true_random=False),
    value=VALUES,
    signed=st.sampled_from(["", *sorted(SIGNED)]),
)
def test_a_parameter_of_the_host_makes_another_video(
    own: dict[str, str], name: random.Random, value: str, signed: str
) -> None:
    changed = dict(own)
    changed[name.choice(sorted(own))] = value

    def url(values: dict[str, str]) -> str:
        query = [f"{n}={v}" for n, v in values.items()] + SIGNED.get(signed, "").split("&")
        return "https://media.example.com/play.mp4?" + "&".join(query)

    assert (canonical_url(url(own)) == canonical_url(url(changed))) == (own == changed)


def test_a_malformed_url_is_refused_without_its_query() -> None:
    with pytest.raises(MediaRefused) as caught:
        canonical_url("https://user:pw@[::1/v?X-Amz-Signature=secret")
    assert "secret" not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_texts_of_ledger_keys_keep_parameters_that_are_no_signature() -> None:
    text = "compare https://me:pw@e.com/v?token=5&sig=1&se=2&sv=2024-11-04 with it"
    assert without_signatures(text) == "compare https://e.com/v?token=5 with it"


def test_redacted_masks_secrets_and_keeps_the_rest() -> None:
    text = "PUT https://me:pw@x.org/a?sig=1&sv=2 with tlk_123 failed (https://docs.example.com/x?y=1)."
    shown = redacted(text, "tlk_123")
    assert shown == "PUT https://x.org/a?sig=***&sv=2 with *** failed (https://docs.example.com/x?y=1)."


@dataclass
class Answer:
    """What a server said."""

    length: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    md5: str | None = None


@dataclass
class Asked:
    """A client with recorded answers of a server."""

    answer: Answer

    async def probe_url(self, url: str) -> Answer:
        return self.answer


def key(url: str, **said: object) -> str:
    return asyncio.run(identify(Asked(Answer(**said)), url)).content_key  # type: ignore[arg-type]


MD5 = '"9e107d9d372bb6826bd81d3542a419d6"'
URL = "https://example.com/v.mp4"


def test_the_content_behind_a_url_is_part_of_its_identity() -> None:
    known = key(URL, etag=MD5, length=5, last_modified="Mon")
    assert len(known) == 32
    assert known == key(URL, etag=MD5, length=5, last_modified="Tue"), "the same bytes uploaded again"
    assert known != key(URL, etag=MD5.replace("9e", "9f"), length=5, last_modified="Mon"), "a replaced file"
    assert known != key(URL + "?v=2", etag=MD5, length=5, last_modified="Mon"), "another address"
    assert known == key(URL + "?X-Amz-Signature=1", etag=MD5, length=5), "signed"


def test_an_etag_that_names_a_node_does_not_split_a_video() -> None:
    dated = {"length": 5, "last_modified": "Mon, 01 Jan 2026 00:00:00 GMT"}
    assert key(URL, etag='"1a-5c1"', **dated) == key(URL, etag='"2b-5c1"', **dated)
    assert key(URL, etag=f"W/{MD5}", **dated) == key(URL, **dated)
    assert key(URL, etag='"1a-5c1"', **dated) != key(URL, etag='"1a-5c1"', **dated | {"length": 6})
    assert key(URL, etag='W/"1"', length=5) == key(URL, etag='"1"', length=5)
    assert key(URL, etag='"1"', length=5) != key(URL, etag='"2"', length=5)


def test_a_local_file_is_its_bytes(tmp_path: Path) -> None:
    async def both(*paths: Path) -> list[str]:
        return [(await identify(Asked(Answer()), p)).content_key for p in paths]

    one, other, third = (tmp_path / name for name in ("a.mp4", "ü b.mp4", "c.mp4"))
    for path, body in ((one, b"video"), (other, b"video"), (third, b"Video")):
        path.write_bytes(body)
    os.utime(other, (1, 1))
    keys = asyncio.run(both(one, other, third))
    assert keys[0] == keys[1] != keys[2]
    found = asyncio.run(identify(Asked(Answer()), other.as_uri()))
    assert (found.content_key, found.size_bytes, found.canonical) == (keys[0], 5, other.as_uri())


def test_a_large_local_file_is_identified_by_size_date_and_blocks(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(WHOLE_FILE + 10 * BLOCK)  # sparse: no disk is used

    def look() -> str:
        return asyncio.run(identify(Asked(Answer()), path)).content_key

    first = look()
    facts = path.stat()
    assert look() == first
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert look() != first


@pytest.mark.parametrize("path", ["/dev/zero", "file:///dev/zero", "a\0b", "file://[x/y.mp4"])
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(MediaRefused) as refused:
        asyncio.run(identify(Asked(Answer()), path))
    assert refused.value.code == "video_file_unreadable"


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_an_empty_text_is_refused_as_such(text: str) -> None:
    with pytest.raises(MediaRefused) as refused:
        asyncio.run(identify(Asked(Answer()), text))
    assert refused.value.code == "video_url_missing"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaRefused, match=r"none\.mp4: No such file"):
        asyncio.run(identify(Asked(Answer()), tmp_path / "none.mp4"))

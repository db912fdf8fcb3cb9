"""Addresses: encoded when sent, without secrets when shown."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_data.urls import encoded, is_loopback, redacted, without_query, without_signatures


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("https://e.com/a b/ü.mp4", "https://e.com/a%20b/%C3%BC.mp4"),
        (" https://e.com/a.mp4\n", "https://e.com/a.mp4"),
        ("https://e.com/100% real.mp4", "https://e.com/100%25%20real.mp4"),
        ("https://e.com/a%20b%2Fc.mp4", "https://e.com/a%20b%2Fc.mp4"),
        ("https://e.com/v.mp4?sig=a%2Bb/c+d&t=ä", "https://e.com/v.mp4?sig=a%2Bb/c+d&t=%C3%A4"),
        ("https://bücher.example:8443/v.mp4", "https://xn--bcher-kva.example:8443/v.mp4"),
        ("HTTPS://E.com/日本.mp4", "https://E.com/%E6%97%A5%E6%9C%AC.mp4"),
        ("http://[::1]:80/a b.mp4", "http://[::1]:80/a%20b.mp4"),
    ],
)
def test_addresses_are_encoded(typed: str, sent: str) -> None:
    assert encoded(typed) == sent


@pytest.mark.parametrize(
    "typed", ["", "video.mp4", "file:///etc/passwd", "ftp://e.com/a", "https:///a.mp4", "//e.com/a"]
)
def test_only_web_addresses(typed: str) -> None:
    with pytest.raises(ValueError, match="begins with http"):
        encoded(typed)


@given(path=st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="?#%\\")))
def test_encoding_keeps_the_meaning_and_is_done_once(path: str) -> None:
    sent = encoded(f"https://e.com/{path}|")
    assert sent.isascii()
    assert " " not in sent
    assert unquote(urlsplit(sent).path) == f"/{path}|"
    assert encoded(sent) == sent


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "see https://b.s3.com/v.mp4?X-Amz-Signature=abc&versionId=2",
            "see https://b.s3.com/v.mp4?versionId=2",
        ),
        ("https://a.blob/v?sv=2024-11-04&se=2026-12-01&sig=a%2Bb%3D", "https://a.blob/v"),
        ("https://a.blob/v?sv=1&sig=a%2Bb%3D", "https://a.blob/v?sv=1&sig=***"),
        ("https://e.com/v?sig=a%2Bb%3D&n=1", "https://e.com/v?sig=***&n=1"),
        ("https://e.com/v?token=abc and tlk_9", "https://e.com/v?token=*** and ***"),
        ("rediss://user:pass@e.com/0?password=pw", "rediss://***@e.com/0?password=***"),
        ("https://user:pass@e.com/v", "https://e.com/v"),
        ("the key tlk_0ABC is bad", "the key *** is bad"),
        ("failed: https://e.com/v?token=abc: not found", "failed: https://e.com/v?token=***: not found"),
        ("cannot read https:/user:pass@e.com/v?sig=a", "cannot read https:/***@e.com/v?sig=***"),
        ("https://e.com/v?jwt=a.b.c&n=1, and more", "https://e.com/v?jwt=***&n=1, and more"),
        ("https://e.com/v#sig=a&access_token=b", "https://e.com/v#sig=***&access_token=***"),
        ("cannot read //user:pass@e.com/v?sig=a", "cannot read ***@e.com/v?sig=***"),
        ("https://e.com/v.mp4%3FX-Amz-Signature=abc is", "https://e.com/v.mp4%3FX-Amz-Signature=*** is"),
        (
            "https://e.com/v?u=https%3A%2F%2Fme%3Apw%40b%2Fv%3Fsig%3Dabc%26n%3D1&m=2",
            "https://e.com/v?u=https%3A%2F%2F***%40b%2Fv%3Fsig%3D***%26n%3D1&m=2",
        ),
        ("https://e.com/v?u=a%253Ftoken%253Dabc, next", "https://e.com/v?u=a%253Ftoken%253D***, next"),
        ("https://e.com/path//a@b/c%3Fdesign%3D1", "https://e.com/path//a@b/c%3Fdesign%3D1"),
        ("https://e.com/v?design=1&sign=2", "https://e.com/v?design=1&sign=2"),
    ],
)
def test_secrets_are_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_any_form_of_the_key_is_masked() -> None:
    assert redacted("odd-key-7 was refused", "odd-key-7", None) == "*** was refused"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://e.com/v.mp4?sig=a#t=1", "https://e.com/v.mp4"),
        ("https://e.com/v.mp4#t=1", "https://e.com/v.mp4"),
        ("https://user:pass@e.com/v.mp4?n=1", "https://e.com/v.mp4"),
        ("https://e.com/@channel/v@2.mp4?n=a@b", "https://e.com/@channel/v@2.mp4"),
        ("https://user:p@ss@e.com:99999/@a", "https://e.com:99999/@a"),
        ("http://user:pass@[::1/v.mp4?a=http://b", "http://[::1/v.mp4"),
        ("https://e.com/at/http://f.com/@b", "https://e.com/at/http://f.com/@b"),
        ("user@e.com/v", "e.com/v"),
        ("", ""),
    ],
)
def test_the_query_and_the_login_are_removed_from_malformed_urls_too(url: str, shown: str) -> None:
    assert without_query(url) == shown


def test_a_malformed_url_in_a_text_keeps_its_scheme_and_path() -> None:
    assert (
        without_signatures("see http://user:pass@[::1/@a/v.mp4?sig=1, or") == "see http://[::1/@a/v.mp4, or"
    )


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2:8080", True),
        ("LOCALHOST", True),
        ("[::1]:80", True),
        ("[::2]", False),
        ("10.0.0.1", False),
        ("localhost.e.com", False),
        ("127.0.0.1.e.com", False),
        ("", False),
    ],
)
def test_loopback_hosts(host: str, loopback: bool) -> None:
    assert is_loopback(f"http://{host}/v1") is loopback


def test_former_texts_of_malformed_urls_stay() -> None:
    """Keys of earlier ledgers contain them."""
    assert without_signatures("see https://u:p@[x/y?a=1.", former=True) == "see [x/y."
    assert without_signatures("see https://u:p@[x/y?a=1.") == "see https://[x/y."

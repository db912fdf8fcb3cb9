"""Settings: precedence, clear refusals, and a key that never shows."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from tl_data.errors import SettingsError
from tl_data.settings import Settings


def test_argument_before_environment_before_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tl.toml"
    file.write_text('index = "file"\nconcurrency = 3\nledger = "from-file"\n[source]\nurl = "ignored"\n')
    monkeypatch.setenv("TL_CONFIG", str(file))
    monkeypatch.setenv("TL_INDEX", "environment")
    monkeypatch.setenv("TL_CONCURRENCY", "5")
    settings = Settings.load(index="argument")
    assert (settings.index, settings.concurrency, settings.ledger) == ("argument", 5, "from-file")


def test_the_key_never_shows() -> None:
    settings = Settings(api_key="tlk_SECRET")
    assert "tlk_SECRET" not in repr(settings)
    assert "tlk_SECRET" not in str(settings)
    assert pickle.loads(pickle.dumps(settings)).api_key == "tlk_SECRET"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"concurrency": "many"}, "concurrency is 'many'; it must be of type int"),
        ({"concurrency": 0}, "must be above 0"),
        ({"timeout": "nan"}, "timeout is nan; it must be above 0"),
        ({"requests_per_minute": -60}, "requests_per_minute is -60.0; it must be above 0"),
        ({"requests_per_day": "inf"}, "requests_per_day is inf; it must be finite"),
        ({"max_wait": -1}, "max_wait is -1.0; it must be 0 or more"),
        ({"on_error": "ignore"}, "'raise' or 'null'"),
        ({"base_url": "api.example.com"}, "http:// or https://"),
        ({"base_url": "http://["}, "not a URL with a host"),
        ({"base_url": "https://:8000"}, "not a URL with a host"),
        ({"base_url": "http://e.com:99999"}, "not a URL with a host"),
        ({"colour": "red"}, "unknown setting 'colour'"),
    ],
)
def test_a_wrong_value_is_named(said: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words.replace("(", r"\(")):
        Settings.load(**said)


def test_a_broken_or_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("index = ")
    monkeypatch.setenv("TL_CONFIG", str(file))
    with pytest.raises(SettingsError, match=r"broken\.toml"):
        Settings.load()
    monkeypatch.setenv("TL_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match="not a file"):
        Settings.load()


def test_the_length_of_vectors_is_that_of_who_makes_them() -> None:
    asked = [{}, {"search_model": "marengo3.0"}, {"search_model": "marengo2.7"}]
    assert [Settings(**said).dimension for said in asked] == [320, 512, 1024]  # type: ignore[arg-type]
    assert [Settings(api_key="k", **said).dimension for said in asked] == [512, 512, 1024]  # type: ignore[arg-type]
    engine = {"base_url": "http://127.0.0.1:1/v1.3"}
    assert [Settings(**engine, **said).dimension for said in asked] == [None, 512, 1024]  # type: ignore[arg-type]
    assert Settings(**engine, search_model="tl-local-2").dimension == 320  # type: ignore[arg-type]
    proxy = {"api_key": "k", "base_url": "https://proxy.example/v1.3"}
    assert [Settings(**proxy, **said).dimension for said in asked] == [None, 512, 1024]  # type: ignore[arg-type]


def test_no_key_and_no_address_means_the_embedded_engine() -> None:
    assert Settings().embedded
    assert not Settings(api_key="k").embedded
    assert not Settings(base_url="http://127.0.0.1:1/v1.3").embedded
    assert Settings(home="/x").ledger_url == os.path.join("/x", "ledger")

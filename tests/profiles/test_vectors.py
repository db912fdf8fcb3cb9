"""Vectors in DuckDB: their length is that of the model, or of the request, and stands in the type."""

from __future__ import annotations

import duckdb
import pytest

import tl_data
from tests.profiles.conftest import Account

DIMENSION_OF = {"today": 512, "2025": 1024}
MODEL_OF = {"today": "marengo3.0", "2025": "marengo2.7"}


@pytest.mark.parametrize("named", [True, False])
def test_a_vector_has_the_length_of_the_accounts_model(account: Account, named: bool) -> None:
    dimension = DIMENSION_OF[account.profile]
    model = MODEL_OF[account.profile] if named else None
    with duckdb.connect() as con:
        tl_data.register(con, account.connection.settings.but(search_model=model))
        [kind] = con.sql("SELECT tl_embed_text('a red circle') AS v").types
        # Nothing was asked yet, so that without a model's name the length is open.
        assert str(kind) == (f"FLOAT[{dimension}]" if named else "FLOAT[]")
        [[length]] = con.execute("SELECT len(tl_embed_text('a red circle'))").fetchall()
        assert length == dimension


def test_an_asked_dimension_is_the_length_of_the_vector(account: Account) -> None:
    settings = account.connection.settings.but(search_model="marengo3.5" if account.today else "marengo2.7")
    with duckdb.connect() as con:
        tl_data.register(con, settings)
        asked = "SELECT tl_embed_text('a red circle', embedding_dimension => 256)"
        if not account.today:
            with pytest.raises(duckdb.Error, match=r"embedding_dimension is 256; marengo2\.7"):
                con.execute(asked)
            return
        [[short]] = con.execute(asked).fetchall()
        [[long]] = con.execute("SELECT tl_embed_text('a red circle')").fetchall()
        assert (len(short), len(long)) == (256, 512)
        # By position the second argument is still text_truncate.
        [[cut]] = con.execute("SELECT tl_embed_text('a red circle', 'end')").fetchall()
        assert list(cut) == list(long)


def test_a_model_of_another_length_than_the_registered_one_is_named(account: Account) -> None:
    """The service's default model is assumed; an account of 2025 has a longer one."""
    settings = account.connection.settings.but(search_model="marengo3.0")
    if account.today:
        pytest.skip("the model that is assumed is the account's")
    with duckdb.connect() as con:
        tl_data.register(con, settings)
        with pytest.raises(duckdb.Error, match=r"1024 numbers.*registered for 512"):
            con.execute("SELECT tl_embed_text('a red circle', model_name => 'marengo2.7')")
        [[value]] = con.execute(
            "SELECT len((try_tl_embed_text('a red circle', model_name => 'marengo2.7')).value)"
        ).fetchall()
        assert value == 1024

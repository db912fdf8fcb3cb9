"""A plugin of dbt-duckdb that registers the functions of the catalog for every model.

    # profiles.yml
    outputs:
      dev:
        type: duckdb
        plugins:
          - module: tl_data.dbt
            config: {index: catalog, ledger: "s3://bucket/ledger"}

`config` contains settings of `tl_data.Settings`; all others come from the environment (TL_...). Set the API
key in the environment. A profile may only refer to a secret variable of dbt, because `dbt debug` prints all
other values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbt.adapters.duckdb.plugins import BasePlugin

import tl_data
from tl_data.errors import SettingsError
from tl_data.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SECRET = "DBT_ENV_SECRET_"  # dbt masks the values of variables with this prefix


class Plugin(BasePlugin):  # type: ignore[misc]  # dbt-duckdb has no types
    """The plugin, selected by `module: tl_data.dbt`."""

    def initialize(self, plugin_config: Mapping[str, Any]) -> None:
        """Read the settings.

        Raises:
            SettingsError: a setting is unknown, or the API key would be printed by dbt.
        """
        config = {name: value for name, value in plugin_config.items() if value not in (None, "")}
        secrets = {value for name, value in os.environ.items() if name.startswith(SECRET)}
        if "api_key" in config and config["api_key"] not in secrets:
            raise SettingsError(
                "api_key is not allowed in profiles.yml, which is shared and printed by dbt. Set "
                "TL_API_KEY in the environment, or write "
                f"api_key: \"{{{{ env_var('{SECRET}TL_API_KEY') }}}}\""
            )
        self.settings = Settings.load(**config)

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """Register the functions on the connection."""
        tl_data.register(conn, self.settings)

    def configure_cursor(self, cursor: DuckDBPyConnection) -> None:
        """Register the functions on a model's cursor, which does not see the connection's macros."""
        tl_data.register(cursor, self.settings)

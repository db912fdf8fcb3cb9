"""dbt: the functions of the catalog in every model, by a plugin of dbt-duckdb.

    # profiles.yml
    outputs:
      dev:
        type: duckdb
        plugins:
          - module: tl_data.dbt
            config: {index: catalog, ledger: "s3://bucket/ledger"}

The config takes the settings of `tl_data.Settings`; what it does not say comes from the environment (TL_...),
as everywhere. The key belongs there. A profile may only pass it on from a variable that dbt keeps secret:
`dbt debug` prints all others.
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

SECRET = "DBT_ENV_SECRET_"  # dbt prints asterisks in the place of the values of variables named like this


class Plugin(BasePlugin):  # type: ignore[misc]  # dbt-duckdb has no types
    """What dbt-duckdb makes of `module: tl_data.dbt`."""

    def initialize(self, plugin_config: Mapping[str, Any]) -> None:
        """Read the settings.

        Raises:
            SettingsError: an unknown setting, or a key that dbt would print.
        """
        said = {name: value for name, value in plugin_config.items() if value not in (None, "")}
        secrets = {value for name, value in os.environ.items() if name.startswith(SECRET)}
        if "api_key" in said and said["api_key"] not in secrets:
            raise SettingsError(
                "api_key may not stand in profiles.yml, which is shared, and which dbt prints. Set "
                "TL_API_KEY in the environment, or write "
                f"api_key: \"{{{{ env_var('{SECRET}TL_API_KEY') }}}}\""
            )
        self.settings = Settings.load(**said)

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """Make the functions available where dbt connects."""
        tl_data.register(conn, self.settings)

    def configure_cursor(self, cursor: DuckDBPyConnection) -> None:
        """Make them available where dbt runs a model: temporary macros do not reach cursors."""
        tl_data.register(cursor, self.settings)

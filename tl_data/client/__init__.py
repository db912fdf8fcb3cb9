"""The client of the API; `OPERATIONS` says which method calls what."""

from tl_data.client.client import Client
from tl_data.client.operations import OPERATIONS, Operation
from tl_data.client.remote import Remote

__all__ = ["OPERATIONS", "Client", "Operation", "Remote"]

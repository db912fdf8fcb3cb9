"""The client of the API; `OPERATIONS` says which method calls what."""

from tl_data.client.client import Client
from tl_data.client.remote import Remote
from tl_data.client.request import OPERATIONS, Operation

__all__ = ["OPERATIONS", "Client", "Operation", "Remote"]

"""The viewer: a web page that shows the videos, tables and costs of a lake (`tl-data view LAKE`).

`server.open_lake` opens a lake, `app.app` is the page as a Starlette application, and `server.serve` runs it.
The viewer never writes to the lake.
"""

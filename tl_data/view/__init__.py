"""A page that shows what is in a lake: `tl-data view LAKE`, and results in notebooks.

open_lake("lake")            what the page shows, from the tables alone
app(lake, token)             the page as a Starlette application; it writes nothing
"""

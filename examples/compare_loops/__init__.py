"""One aiohttp program on several event loops: are its answers right, and what do they cost?

`__main__` runs the servers (`server`), has every route checked (`checks`), then puts them under
load (`load`, with `http_client` where wrk is not installed) and prints one table (`report`).
"""

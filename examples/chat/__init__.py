"""A chat: aiohttp, PostgreSQL, Redis, WebSockets and server-sent events on mioloop."""

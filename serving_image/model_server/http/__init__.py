"""HTTP/1.1 on asyncio and httptools: connections, routing."""

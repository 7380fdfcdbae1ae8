"""`model-server ready`: the health check of a container, which has no curl."""

import http.client

from model_server.settings import Settings

_TIMEOUT_SECONDS = 2


def ready(settings: Settings) -> int:
    """0 if the server that these settings describe is ready, 1 if not or if it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.server.http_port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/v2/health/ready")
        return 0 if connection.getresponse().status == http.client.OK else 1
    except OSError:
        return 1
    finally:
        connection.close()

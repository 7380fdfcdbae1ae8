"""Start the server as the settings say: one process, or a master and its workers."""

from model_server.engine.service import check_steps
from model_server.errors import SettingsError
from model_server.process.cpus import available_cpus
from model_server.process.sockets import bind
from model_server.process.worker import Place, run_worker
from model_server.settings import Settings
from model_server.telemetry.logs import log, set_up_logs

_CANNOT_LISTEN = 1
_BAD_SETTINGS = 2


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    set_up_logs(settings.log)
    try:
        check_steps(settings)
    except SettingsError as error:
        log.error(str(error))  # noqa: TRY400 - the message names the field and the mend
        return _BAD_SETTINGS
    server = settings.server
    workers = server.workers or available_cpus()
    port = server.http_port
    try:
        if workers == 1:
            (sock,) = bind(server.host, port)
            port = server.grpc_port
            grpc_sock = bind(server.host, port)[0] if settings.grpc.enabled else None
            return run_worker(settings, Place(sock, grpc_sock))
        from model_server.process.master import Master

        master = Master(settings, workers)
    except OSError as error:
        log.error(  # noqa: TRY400 - the cause is in the message; a traceback says no more
            f"cannot listen on {server.host} port {port}: {error.strerror}"
        )
        return _CANNOT_LISTEN
    return master.run()

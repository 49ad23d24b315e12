"""The address a server listens on."""

import errno
import socket

from tunesmith.cli.exits import CommandError

WAITING_CONNECTIONS = 2048  # that the system keeps until they are accepted


def bind(host: str, port: int) -> socket.socket:
    """Listens on an address (port 0: any free one), before anything slow happens.

    Raises CommandError, with what to do instead, when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is; without it each answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(WAITING_CONNECTIONS)
    except (OSError, OverflowError) as error:
        listener.close()
        raise CommandError(_bind_failure(host, port, error)) from error
    return listener


def _bind_failure(host: str, port: int, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"Port {port} on {host} needs more permissions (as all ports below 1024 do). Choose another: --port 8000"
    if isinstance(error, socket.gaierror):
        return f"The host {host!r} is unknown ({error.strerror}). Use an address of this machine: --host 127.0.0.1"
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken by another program (another Tunesmith?)."
            f" Choose another, --port {port + 1}, or --port 0 for any free one."
        )
    return (
        f"Cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}. Choose another --host or --port."
    )


def url_of(listener: socket.socket) -> str:
    """The base URL under which clients on this machine reach the server."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/v1"

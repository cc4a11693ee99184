"""Nothing here leaves this machine: a test that opens a socket to anything but loopback fails."""

import ipaddress
import socket

import pytest


def is_here(address) -> bool:
    """True for loopback, and for what is no address of a network (a path of a Unix socket)."""
    if not isinstance(address, tuple):
        return True
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:  # a name
        return address[0] in ("localhost", "")


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch):
    """Refuse to connect, or to send to, anything else; and fail the test, also where a library bears the refusal."""
    refused = []

    def guarded(name: str):
        real = getattr(socket.socket, name)

        def call(self, *given):
            if not is_here(given[-1]):
                refused.append(given[-1])
                raise ConnectionRefusedError(f"a test reached for {given[-1]}")
            return real(self, *given)

        return call

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guarded(name))
    yield refused
    assert not refused, f"only loopback is allowed here, and this was reached for: {refused}"

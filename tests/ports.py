"""Ports for the servers that tests start."""

import random
import socket

# Below those that the system gives to outgoing connections: tests make thousands of these, and one of them would take
# the port in the moment in which the server starts. And above 10080, the last that no browser opens (Fetch, "port
# blocking"). Not Python's own dice, which hypothesis throws alike everywhere.
_PORTS = range(10_081, 32_768)
_dice = random.SystemRandom()


def free_port() -> int:
    while True:
        port = _dice.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port

"""The tests of `transports`, over real sockets on loopback."""

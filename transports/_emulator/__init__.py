"""The HTTP/1.1 server of the emulator and its command, for `transports.emulator`."""

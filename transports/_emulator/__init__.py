"""The rooms behind `transports.emulator`: the HTTP/1.1 server of the emulator and its command."""

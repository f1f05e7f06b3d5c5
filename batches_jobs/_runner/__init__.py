"""Runs jobs: the machine's directives, carried out with a client, an input and a journal."""

"""Engines for durable execution that can run a job."""

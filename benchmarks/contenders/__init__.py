"""The contenders: functions that do the work of a measure in one way, each in its own process.

A contender takes a `Task`, does the work inside a `ResourceMeter`, and returns a `Sample`. It may
run with the package of another checkout, so it uses only names that both checkouts have. If a whole
feature is missing there, it raises `NotThereError`.

A module imports only what its own contenders need, because imports cost time and memory.
"""

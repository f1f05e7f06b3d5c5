"""The contenders: functions that do one measure's work in one way, each in a process of its own.

A module imports what its contenders need, so that one's imports never weigh on another. Each
function takes a `Task`, does the work inside of a `Meter`, and gives an `Outcome`.
"""

"""The tests of both packages, of the examples, and of the project's own promises."""

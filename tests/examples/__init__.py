"""The examples, started as a user starts them."""

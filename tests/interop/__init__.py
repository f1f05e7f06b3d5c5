"""Other people's clients against our emulator."""

"""Tests of the emulator with clients of other authors."""

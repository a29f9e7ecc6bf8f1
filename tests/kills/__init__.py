"""Trainings killed at chosen and at random moments; the same command, run until it ends, must undo every kill."""

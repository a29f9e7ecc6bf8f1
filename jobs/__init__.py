"""Sweeps: planned, submitted through submitit, followed, and reported. Imports torch only inside a job."""

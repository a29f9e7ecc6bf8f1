"""Files of runs and of data damaged in every way: damage is refused, said aloud or undone, never taken silently."""

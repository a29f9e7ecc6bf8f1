"""Figures of merit for reconstructions, codebooks, rates and samples: pure functions that know no run and no file."""

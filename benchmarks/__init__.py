"""One script a claim: each prints JSON and its table, and what docs/results holds can be made again by it."""

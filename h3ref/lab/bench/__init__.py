"""The benchmark: h3ref beside its peers, in one run and on one machine, so that the ratios can be compared."""

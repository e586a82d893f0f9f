"""The results of an experiment: sums of its participants, always-valid intervals, a verdict.

Pure functions and one pure data structure. `participants` adds up what each user did, `tally` holds the
totals, `sequence` and `sample_ratio` are the mathematics, `assessment` combines them, and `verdict`
says what follows. None of it knows routes, stores, clocks or the life of an experiment.
"""

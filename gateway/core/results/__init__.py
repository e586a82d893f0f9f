"""What an experiment has shown: sums of its participants, intervals that may be looked at, a verdict.

Pure functions and one pure data structure. `participants` adds up what each user did, `tally` is what
all of it comes to, `sequence` and `sample_ratio` are the mathematics, `assessment` puts them
together and `verdict` says what follows. None of it knows routes, stores, clocks or the life of an
experiment.
"""

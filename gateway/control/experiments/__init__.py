"""Experiments at work: their lives, participants, outcomes and results, and what was in force when.

`desk` holds the lives and `participants` the sums; `outcomes` accepts late reports and `timeline` says
where they belong; `database` and `file` store everything; `service` combines the parts. What an operator may
do, and what the numbers mean, is in `core`.
"""

"""Experiments at work: their lives, participants and outcomes, what was in force when, and results.

`desk` holds the lives and `participants` the sums; `outcomes` takes what people report late and `timeline`
says where it belongs. `database` and `file` are the disk below. What an operator may do, and what the
numbers mean, is in `core`.
"""

"""Checks of a student's own code: what comes out of each method, and which mistake it shows.

observe (probes.py) calls every method in many situations and knows no right number; judge
(judge.py) compares what came out with right numbers and with those of known mistakes. These are
computed (expected.py, from reference.py and mistakes.py) or, in a hand-out, which must not hold the
solutions, read from expected.npz.
"""

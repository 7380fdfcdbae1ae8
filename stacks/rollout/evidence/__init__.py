"""What the numbers say, at any time that one cares to look.

Every bound here is *always valid*: the stated alpha is the probability that it is ever wrong, at whichever
of any number of looks, so a driver may look continuously and stop when it likes. Each comes from a
non-negative martingale M with M(0) = 1 under the hypothesis, for which Ville's inequality says
P(sup M >= 1/alpha) <= alpha.

All functions take plain numbers or numpy arrays of one shape, and return arrays of that shape.
"""

"""The losses of other libraries under their own names: a trainer swaps one import.

A file per library, named after it. Each class and function takes the arguments of its namesake
under the same names, in the same order, with the same defaults, and returns the same value and
gradients, in O(N D) memory. What it cannot do raises an error that says what to use instead. None
of the libraries is imported; docs/swap.md says what to write, what is lost and what is gained.
"""

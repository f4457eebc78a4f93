"""Random calls of all operators, on tensors between inaccessible pages.

``python -m tests.guarded SEED ROUNDS`` makes them: two calls in most rounds, for each instruction
set of the processor. tests/test_guarded.py makes 500; with tests/sanitized.py they run
under AddressSanitizer.
"""

"""Times the loss and its alternatives: `simclr-ext bench`, and what benchmarks/ is built on.

Importable with torch alone.
"""

"""Properties of the losses that hold for all inputs, on inputs that hypothesis draws.

`make test` draws some hundred, the same in every run; `make properties` thousands, others each
time. A failure that was found has a test with a name of its own among those of its loss.
"""

"""A time model of the CUDA kernels: predictions, not measurements.

figures       every number that it assumes, with unit and source
instructions  what a tile of a kernel executes: the machine code that sass_report.py counted
grids         into how many blocks a problem is cut
fused         the step of the kernels that multiply themselves, D <= 256
wide          the step whose products are cuBLAS's, D > 256
published     what others measured of kernels of the same shape
tables        all of it as Markdown: python -m benchmarks.gpu.model
prediction    what gpu_check puts beside its measurements
"""

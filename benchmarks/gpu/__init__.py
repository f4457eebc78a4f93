"""What `benchmarks/gpu_check.py` runs on a GPU: checks, timings, probes and tools, a file each."""

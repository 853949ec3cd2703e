"""The machine: processes, threads, devices, precision, memory and random numbers."""

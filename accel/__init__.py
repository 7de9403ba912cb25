"""Accelerators: what runs a guest's instructions, and the one vCPU loop that serves its exits."""

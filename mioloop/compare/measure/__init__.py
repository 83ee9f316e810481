"""Workloads, the processes that run them, and the samples that are taken from them."""

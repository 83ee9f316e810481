"""What is measured: workloads, the processes that run them, and the samples they give."""

"""What the benchmark's other methods are and do."""

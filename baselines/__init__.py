"""What papers compare with: the benchmark's reference methods, and published numbers."""

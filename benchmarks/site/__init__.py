"""The complete project, with one more address: a room that the benchmarks publish to."""

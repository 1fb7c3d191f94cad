"""A small project that uses the engine alone: what the tests of the servers and the benchmarks run."""

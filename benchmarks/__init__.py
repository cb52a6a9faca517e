"""Side-by-side measurements against peers; each prints ratios. Not part of the tests."""

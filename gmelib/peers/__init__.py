"""The compared methods (Tables 1-3), from random weights: one file a method."""

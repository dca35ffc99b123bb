"""The features: one folder per namespace, the same file names in each."""

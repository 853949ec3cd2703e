"""Published weight files, read safely and turned into what the loaders of this package take."""

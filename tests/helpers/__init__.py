"""What several test files share: made-up runs, stand-in networks, small data sets."""

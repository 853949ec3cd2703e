"""What comes in: data sets, films, and the table of clips."""

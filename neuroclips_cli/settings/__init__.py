"""Settings: their fields, where they are read from, and how text becomes values."""

"""Files and folders as users have them."""

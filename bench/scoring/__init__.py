"""Score images completed by any other program."""

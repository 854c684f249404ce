"""What becomes of a finished model: found, evaluated if need be, merged, sent, verified."""

"""Sources of pixels, maps and labels, and the stimulus set that is frozen from them."""

"""Models: pixels in [0, 1] -> logits, with normalisation and resizing inside, once."""

"""From cleaned trials of participants to human maps, and how well people agree: ceilings, floors, curve."""

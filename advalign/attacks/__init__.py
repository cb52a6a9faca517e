"""Attacks: one file each; what begins with an underscore is shared by them and no entry.

They know a classifier only as a function from pixels to logits, and ask it through `_oracle.Oracle` alone.
"""

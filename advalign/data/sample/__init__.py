"""The sample data set: drawn pictures with simulated human maps, in the layout of the real data.

`canvas` draws shapes, `drawings` holds one function per category, `scene` turns a drawing into an image and its map.
"""

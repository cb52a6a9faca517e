"""Image sets: one file each; named, frozen items (images, labels, further data) with a digest."""

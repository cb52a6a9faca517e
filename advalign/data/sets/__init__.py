"""Image sets: one file each; named, frozen items (images, labels and what else is known of them) with a digest."""

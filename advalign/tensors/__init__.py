"""Pure tensor functions: norms, ranks, heatmaps, pyramids. They know no models, files or settings."""

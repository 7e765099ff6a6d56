"""Label maps against label maps: overlap, distances of surfaces, agreement over patients."""

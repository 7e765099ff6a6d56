"""What a label map measures: areas and densities of slices, the level, the patient, cut-offs, the report."""

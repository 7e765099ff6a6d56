"""What a scan is, without files: geometry, series, the radiological view, HU, labels and label maps. numpy alone."""

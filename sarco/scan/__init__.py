"""What a scan is, without files: geometry, series, the radiological view, HU, labels and label maps; numpy alone.

Index order is (row, column, slice) for arrays and for the columns of an affine alike; world is LPS in mm. Only
`sarco.scan.view` knows how a slice is turned for the eye. Id 255 means "nobody looked", 0 is background.
"""

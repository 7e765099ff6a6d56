"""What an examination makes of an invented patient: posture, couch and covers, arms and devices, then the scanner.

Ranges and chances of everything that varies stand in tables beside their sources. A thick slice is the mean of an odd
number of planes; its labels are those of the middle plane. Lengths are mm, attenuation is HU.
"""

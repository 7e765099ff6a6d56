"""The pelvis of invented patients: bones, muscles and organs as sheets, cords and rods in coordinates of its own.

It is painted last and over the body, whose cavity it limits; its muscles are compartments as everywhere.
"""

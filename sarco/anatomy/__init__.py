"""The bodies of invented patients from the lower chest to the crest of the hip bones: one label table, shapes, painter.

Body coordinates are mm: x to the patient's left, y to the back, z up, from the trunk's axis at mid-L3, for a body of
average size. Muscles are compartments: rim and inner fat belong to them. Every point inside the skin has a label.
"""

"""Looking at a prediction and correcting it: contact sheet, review page, corrections and what follows from them.

A page is one HTML file that opens without a network and measures nothing itself. Corrections are tied to the label
map they were drawn on by its hash, read with suspicion, and applied all at once or not at all.
"""

"""How labelled data lies in folders, found by looking: what is an image, which labels are its own, whose it is.

A layout is a module that claims files and gives `FoundCase`s; `sarco.layouts.search` asks all of them, `wanted` settles
which number each structure has in the training, and `labels` reads what lies there as one label map. Nobody else knows
how nnU-Net, the Decathlon, TotalSegmentator or SAROS name their files.
"""

"""Run folders and their checkpoints, how a run is resumed, and Weights & Biases.

A checkpoint holds Lightning's own content and, under ``hyper_parameters``, a `RunDescription`: options, labels, where
the first weights came from, the split (patients as pseudonyms), version, area errors and scores of validation patients
and statistics of the training slices. That is enough to predict without any option. It is opened with
``weights_only=True``; pickled code is refused and never run.

Resuming is exact, bit for bit on a CPU of the same kind with the same number of threads where waiting threads sleep
(``GOMP_SPINCOUNT=0``: spinning ones add up in another order now and then), because the order of slices
is a function of (seed, epoch), what augmentation draws one of (seed, epoch, slice, turn), all chance of a step one of
(seed, step, process, batch within the step), and the learning rate one of the epoch. Checkpoints are written at the
end of every epoch, after the line in ``metrics.csv``. Labels, patients and split have to be those that the run began
with.
"""

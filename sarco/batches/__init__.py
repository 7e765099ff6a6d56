"""What a training batch is made of besides a person's prepared slices: invented ones, painted when they are drawn.

A sample that knows only some of the run's labels says so in ``known`` (K,) bool, background first: background there
may be any label that is not known (see `sarco.training.loss.fold_logits`). Where every sample of a run knows all labels
there is no ``known``.
"""

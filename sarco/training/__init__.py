"""What only a training needs: cases, cache, sampling, loss, scores, schedule, callbacks, distillation.

A sample of the data module is a dict: ``image`` (C, S, S) float32 in [0, 1]; ``label`` (S, S) int64 channel numbers,
-1 where nobody looked; ``weight`` of the sample in the loss; ``index`` of the slice in the data set; ``coordinates``
(S, S, 2) only on a GPU, where the batch is warped. Scores add up over batches and processes and are computed once per
epoch. Nothing in a step reads a value: a GPU would have to wait.
"""

"""Everything that only a training needs: cases, cache, sampling, augmentation, loss, scores, schedule, callbacks."""

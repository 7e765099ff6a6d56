"""The torture set, small CT series with one fault each, and the judge of readers."""

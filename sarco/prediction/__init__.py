"""A series through one network or several: engines, their choice and judge, kept exports, pipeline, ONNX file.

A network is exported once and kept beside its checkpoint. Its masks have to be those of torch at 32 bits; per series
bf16 has to give the masks of 32 bits on a sample, or the first layers run in fp32, or all. Engines compile in the
background while headers are read. One thread reads, crops and windows, as many as the engine likes compute, one
brings back; only a few batches are in the making, so memory does not grow with the series. Slices arrive in any order
and are known by their plane. Several networks, and mirror images, are engines around engines: what comes out is the
logarithm of the mean probability, which the way back takes for logits.
"""

"""A series through a network: which engine, what judges its masks, kept exports, the pipeline, the ONNX file."""

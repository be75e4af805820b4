"""Image -> Segmentation: any model of the ONNX contract."""

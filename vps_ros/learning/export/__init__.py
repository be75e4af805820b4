"""Networks as ONNX files of the model contract, checked against torch."""

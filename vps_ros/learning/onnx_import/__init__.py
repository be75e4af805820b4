"""Import of ONNX networks that other programs exported: preprocessing and decoding are added to the graph.

network.py opens the file and writes the model, instances.py decodes YOLO and RF-DETR, semantic.py semantic
segmentation, merge.py joins a model for things and a model for stuff, class_names.py reads the classes.
"""

"""Post-processing (vps_ros/segmenters/postprocess.py) as ONNX operators behind a network."""

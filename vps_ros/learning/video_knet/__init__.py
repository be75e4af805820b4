"""Video K-Net (Li et al., A Simple, Strong, and Unified Baseline for Video Segmentation, CVPR 2022).

K-Net (Zhang et al., NeurIPS 2021) gives every segment a kernel, whose product with the pixels' features is the mask.
Video K-Net hands kernels on from frame to frame: a recurrent segmenter whose embeddings are made for the tracker.
"""

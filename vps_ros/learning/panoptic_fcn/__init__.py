"""PanopticFCN (Li et al., CVPR 2021): things and stuff as dynamic convolutions of one high-resolution feature.

It is the segmenter of HybridTracker and of Clip-PanoFCN. There is also a small variant for CPUs.
"""

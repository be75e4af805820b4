"""PanopticFCN (Li et al., CVPR 2021): things and stuff as dynamic convolutions of one high-resolution feature.

The segmenter of HybridTracker and of Clip-PanoFCN; here also in a small variant for CPUs.
"""

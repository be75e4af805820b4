"""kMaX-DeepLab (Yu et al., k-means Mask Transformer, ECCV 2022) as in bytedance/kmax-deeplab.

The smaller network of the shipped models is in learning/kmeans/.
"""

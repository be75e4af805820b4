"""kMaX-DeepLab (Yu et al., k-means Mask Transformer, ECCV 2022) as bytedance/kmax-deeplab trains and publishes it.

Its smaller relative, which is trained here, is in learning/kmeans/.
"""

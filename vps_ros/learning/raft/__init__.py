"""RAFT (Teed and Deng, ECCV 2020): optical flow by a network, from published checkpoints to model files."""

"""The work of `vps-ros` on many recordings, on the machines of a Ray cluster."""

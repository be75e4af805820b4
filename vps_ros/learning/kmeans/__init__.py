"""The k-means mask transformer, kind `streets`: network, losses, weights of exported files."""

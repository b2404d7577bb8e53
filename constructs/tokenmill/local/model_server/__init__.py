"""The model server: an inference server's interfaces and timing, without weights."""

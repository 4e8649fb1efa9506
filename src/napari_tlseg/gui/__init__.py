"""The napari face. Nothing here imports torch: what computes runs in another process."""

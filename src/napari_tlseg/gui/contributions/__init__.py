"""What napari offers through us beside the docks."""

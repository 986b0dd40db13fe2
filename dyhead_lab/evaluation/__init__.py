"""How good a detector is: the COCO metric."""

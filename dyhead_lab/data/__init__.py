"""Data sets: COCO format, the built-in Shapes set, Pascal VOC conversion, COCO download."""

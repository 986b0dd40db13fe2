"""Figures that more than one chapter draws. What one chapter alone draws lies in its own folder."""

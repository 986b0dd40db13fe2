"""What the exercises of all chapters are made of: checks of a reader's function, drills, cards, predictions."""

"""Files of models that are named, not given by a path: of the Hub, or of other programs."""

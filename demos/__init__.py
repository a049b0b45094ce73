"""Commands that train a model and leave pictures: ``python -m demos``."""

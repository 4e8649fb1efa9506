"""Pretraining and training, with λ."""

"""Inpainting models: one architecture a file, registered by name.

Importing this package imports no torch; :mod:`models.discovery` reads names from the source of the model
files, and only :func:`models.discovery.load` imports a model.
"""

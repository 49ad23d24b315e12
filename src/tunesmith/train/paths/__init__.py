"""The ways through the layers, each equal to the reference path, and the choice between them."""
